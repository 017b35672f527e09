"""Ask for a token field by field. A mistyped field is asked for again. A rare field is not asked for at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pam_softtoken.device import desk
from pam_softtoken.interchange import record
from pam_softtoken.otp import key_uri
from pam_softtoken.otp.token import Token
from pam_softtoken.program_errors import ProgramError, Unreadable
from pam_softtoken.ui import terminal

KINDS = ("totp", "hotp")
MAX_COUNTER = 2**62 - 1
_LEAST = record.SHORTEST_KEY_BYTES
T = TypeVar("T")


def ask(
    screen: terminal.Terminal, question: str, convert: Callable[[str], T], *, default: str = "", hidden: bool = False
) -> T:
    """Ask for one field until the answer is understood.

    Args:
        screen: the user's terminal.
        question: the text of the question, without the colon.
        convert: returns the value. It raises ProgramError for an invalid answer.
        default: the value of an empty answer.
        hidden: do not show what is typed.

    Raises:
        VaultFailed: the input has ended.
        KeyboardInterrupt: the user stops.
    """
    while True:
        typed = desk.ask(screen, question, default=default, hidden=hidden)
        try:
            return convert(typed)
        except ProgramError as error:
            hint = f" ({error.hint})" if error.hint else ""
            message = terminal.visible(error.message)
            screen.tell(f"{message[:1].upper()}{message[1:]}{hint}. Try again, or press Ctrl-C.")


def token(screen: terminal.Terminal, name: str, *, advanced: bool, echo: bool) -> Token:
    """Ask for everything but the name.

    Args:
        screen: the user's terminal.
        name: the name of the token.
        advanced: ask for type, digits, algorithm and period or counter, too, instead of using the defaults.
        echo: show the key while it is typed.

    Raises:
        VaultFailed: the input has ended.
    """
    now = int(time.time())

    def make(key: bytes, **fields: int | str) -> Token:
        maker = record.hotp_token if "counter" in fields else record.totp_token
        return maker(name, key, now=now, min_key_bytes=_LEAST, **fields)  # type: ignore[arg-type]

    def key_of(typed: str) -> bytes:
        key = record.key_from_base32(typed)
        make(key)  # also checks the length
        return key

    key = ask(screen, "Key, in Base32", key_of, hidden=not echo)
    if not advanced:
        screen.tell(
            f"Taken as TOTP with {key_uri.DEFAULT_DIGITS} digits, {key_uri.DEFAULT_ALGORITHM} and "
            f"{key_uri.DEFAULT_PERIOD_S} s, as nearly all are; softtoken add --advanced asks for each."
        )
        return make(key)
    kind = ask(screen, "Type, totp or hotp", _kind, default=KINDS[0])
    digits = ask(screen, "Digits", _number("digits", 6, 8), default=str(key_uri.DEFAULT_DIGITS))
    algorithm = ask(screen, "Algorithm", record.algorithm_from, default=key_uri.DEFAULT_ALGORITHM)
    if kind == "hotp":
        counter = ask(screen, "Counter", _number("the counter", 0, MAX_COUNTER), default="0")
        return make(key, counter=counter, algorithm=algorithm, digits=digits)
    typed_period = _number("the period", 1, 300)
    period_s = ask(screen, "Period in seconds", typed_period, default=str(key_uri.DEFAULT_PERIOD_S))
    return make(key, period_s=period_s, algorithm=algorithm, digits=digits)


def _kind(typed: str) -> str:
    if typed.lower() not in KINDS:
        raise Unreadable("the type is neither totp nor hotp", hint="most services mean totp")
    return typed.lower()


def _number(what: str, lowest: int, highest: int) -> Callable[[str], int]:
    return lambda typed: record.number(typed, what, lowest=lowest, highest=highest)
