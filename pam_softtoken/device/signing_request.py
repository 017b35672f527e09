"""A request to sign: check it completely, show it, and sign it after an explicit yes. Nothing of a request is shown
before its form, its MAC, its key and its age are checked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from pam_softtoken.device.entry import Entry
from pam_softtoken.errors import in_words
from pam_softtoken.otp import signing, statement
from pam_softtoken.otp.ocra import OCRAToken
from pam_softtoken.otp.statement import Statement
from pam_softtoken.program_errors import BadRequest, VaultFailed
from pam_softtoken.ui import consent, terminal

MAX_AHEAD_S = 60
"""How far a host's clock may be ahead of this device's clock."""
_NAME_COLUMNS = 8
_LEAST_COLUMNS = 40
_LINES_BELOW = 2
"""The hint about a long request, and the question."""
_ANEW = "run the command on the host again, and sign the new request"


class Request(NamedTuple):
    """A genuine request.

    Args:
        entry: the entry that signs it.
        token: the entry's token.
        statement: what is to be signed.
    """

    entry: Entry
    token: OCRAToken
    statement: Statement


def check(text: str, signers: Sequence[tuple[Entry, OCRAToken]], *, now: int) -> Request:
    """Check a request.

    Args:
        text: as it was pasted or received.
        signers: the entries that can sign.
        now: Unix seconds.

    Raises:
        VaultFailed: it must not be signed. The message repeats nothing of it.
    """
    try:
        wanted = signing.request_key_id(text)
        found = next((each for each in signers if signing.key_id(each[1].secret.reveal()) == wanted), None)
        if found is None:
            raise VaultFailed(
                "not signed: no token in the vault has the key of this request",
                hint="softtoken add takes the Key URI that the host shows when you enrol a token that signs",
            )
        asked = signing.read_request(found[1].secret.reveal(), text)
    except BadRequest as error:
        raise VaultFailed(
            f"not signed: {error}", hint=f'copy the whole line, from "{signing.PREFIX}" to its end'
        ) from None
    request = Request(*found, asked)
    _check_age(request, now)
    return request


def _check_age(request: Request, now: int) -> None:
    age_s = now - request.statement.time
    if age_s > signing.MAX_AGE_S:
        raise VaultFailed(f"not signed: the request is {in_words(age_s)} old", hint=f"{_ANEW}; or a clock is wrong")
    if age_s < -MAX_AHEAD_S:
        raise VaultFailed(
            f"not signed: the request is from the future, by {in_words(-age_s)}",
            hint="see whether the clock of this device or of the host is wrong",
        )


def confirm(screen: terminal.Terminal, request: Request) -> str | None:
    """Show a request, and ask whether to sign it.

    Returns:
        The code. None if the answer is no.

    Raises:
        VaultFailed: the request has become too old.
        EnrolmentFailed: the input has ended.
        KeyboardInterrupt: the user stops.
    """
    columns = terminal.message_columns()
    lines = [("token", statement.escape(request.entry.name)), *statement.shown_lines(request.statement)]
    shown = [line for name, value in lines for line in wrapped(name, value, columns)]
    for line in shown:
        screen.tell(line)
    if len(shown) + _LINES_BELOW > terminal.message_lines():
        screen.tell(
            f"These are {len(shown)} lines, more than the terminal shows. Scroll up, and read the first ones too."
        )
    # A paste can have more lines than the request, and people type ahead. Neither is an answer.
    terminal.discard_typed_ahead()
    if not consent.agreed(screen, "Sign it?"):
        return None
    _check_age(request, int(time.time()))
    return signing.sign(request.token.secret.reveal(), request.statement)


def wrapped(name: str, value: str, columns: int) -> list[str]:
    """Return a line of a statement in lines of the terminal. No part of a long value can look like another line.

    Args:
        name: the line's name.
        value: printable ASCII.
        columns: width of the terminal.
    """
    room = max(columns, _LEAST_COLUMNS) - _NAME_COLUMNS - 4
    parts = [value[place : place + room] for place in range(0, len(value), room)] or [""]
    return [f"  {name:{_NAME_COLUMNS}} {parts[0]}", *(f"  {'':{_NAME_COLUMNS - 1}}+ {part}" for part in parts[1:])]
