"""`softtoken-enroll`: link a soft token to an account: show the key, confirm it by a code, show recovery codes, write.

Nothing that was there before changes until the last step, whatever interrupts it.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

from pam_softtoken import config as configuration
from pam_softtoken import files, key_uri, otp, policy, recovery, terminal
from pam_softtoken.errors import (
    BadTokenFile,
    ConfigError,
    EnrolmentFailed,
    OTPReplayed,
    PathError,
    Refused,
    UsageError,
)
from pam_softtoken.state import NEVER, State
from pam_softtoken.store import Location, Store
from pam_softtoken.token import (
    KEY_BYTES,
    MAX_KEY_BYTES,
    HOTPToken,
    Secret,
    Token,
    TOTPToken,
    decode_base32,
    encode_base32,
)
from pam_softtoken.tokenfile import TokenFile

PROGRAM = "softtoken-enroll"
CONFIRMATIONS = 3
LOCK_TIMEOUT_S = 5.0
SEARCHED_STEPS = 40  # how far a wrong clock is looked for after a code that does not fit
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

DESCRIPTION = "Link a soft token (an app that shows one-time codes) to this account."
EPILOG = """\
examples:
  softtoken-enroll
      enrol yourself: scan, confirm, keep the recovery codes
  softtoken-enroll --force
      replace the token, for instance after the phone was lost
  softtoken-enroll --type hotp
      a token that counts instead of going by the clock
  softtoken-enroll --user alice
      as root, for somebody else
  softtoken-enroll --no-confirm --json --key-file key.txt
      from a script, with a key that is in a token already
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"see {PROGRAM} --help")


def build_parser() -> argparse.ArgumentParser:
    """Make the command line; `--help` is made from it, too."""
    parser = _Parser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    token = parser.add_argument_group("the token")
    token.add_argument("--name", default="phone", metavar="NAME", help="what to call it (default: phone)")
    token.add_argument(
        "--type", choices=("totp", "hotp"), default="totp", help="by the clock or counting (default: totp)"
    )
    token.add_argument(
        "--algorithm", choices=otp.ALGORITHMS, default="SHA1", help="default: SHA1, which every app can do"
    )
    token.add_argument("--digits", type=int, default=6, metavar="6|7|8", help="length of a code (default: 6)")
    token.add_argument(
        "--period", type=int, metavar="SECONDS", help="how long a TOTP code lasts, 1 to 300 (default: 30)"
    )
    token.add_argument("--key-file", metavar="FILE", help="take the key, in Base32, from FILE, or - for stdin")
    token.add_argument(
        "--recovery-codes", type=int, default=10, metavar="N",
        help=f"how many codes for when the token is lost, 0 to {recovery.MAX_CODES} (default: 10)",
    )  # fmt: skip
    where = parser.add_argument_group("where it goes")
    where.add_argument("--user", metavar="USER", help="enrol somebody else; root only")
    where.add_argument("--store", metavar="TEMPLATE", help="where the files are, as in the module's store= option")
    where.add_argument("--force", action="store_true", help="replace the token that is there")
    how = parser.add_argument_group("how it is shown")
    how.add_argument("--qr", choices=("utf8", "ansi", "none"), help="how the QR code is drawn (default: what fits)")
    how.add_argument("--no-confirm", action="store_true", help="ask nothing; write at once")
    how.add_argument("--json", action="store_true", help="one JSON object on stdout, for programs")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the program: exit status 0 done, 1 failed, 2 usage."""
    # A caller's umask could make files that lock their owner out.
    os.umask(0o077)
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    return terminal.run(PROGRAM, lambda screen: _enrol(screen, arguments))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _enrol(screen: terminal.Terminal, arguments: list[str] | None) -> None:
    options = build_parser().parse_args(arguments)
    account = _account(options.user)
    settings = _settings(options.store)
    location = _location(settings, account)
    if not options.no_confirm and not terminal.person_is_there():
        raise EnrolmentFailed(
            "there is no terminal to ask for a code on", hint="run it in a terminal, or add --no-confirm"
        )
    token = _new_token(options)
    store = Store(location)
    try:
        codes = _enrol_in(store, screen, options, token, settings)
    except PathError as error:
        store.withdraw()
        raise EnrolmentFailed(f"{error}; nothing was changed", hint=_hint_for(error, location)) from None
    except OSError as error:
        store.withdraw()
        raise EnrolmentFailed(
            f"{location.path}: {os.strerror(error.errno or 0)}; nothing was changed",
            hint="make room, or make the directory writable for its owner, and start again",
        ) from None
    except BaseException:
        store.withdraw()
        raise
    finally:
        store.close()
    if options.json:
        screen.show(json.dumps(_as_json(token, account, codes)))
    else:
        screen.tell(f'Done. {account.name} is enrolled with token "{token.name}", in {location.path}.')


def _enrol_in(
    store: Store,
    screen: terminal.Terminal,
    options: argparse.Namespace,
    token: Token,
    settings: configuration.Config,
) -> list[str]:
    """Go through the dialogue and write; the recovery codes come back."""
    before = _open(store, force=options.force)
    codes = recovery.generate(options.recovery_codes)
    if options.no_confirm and options.json:
        counter = NEVER
    else:
        # With --json stdout is for the one object; the person reads on stderr.
        page = terminal.Terminal(PROGRAM, results=sys.stderr) if options.json else screen
        _introduce(page, token, store.location.account, options.qr)
        counter = NEVER if options.no_confirm else _confirm(page, token, before, settings)
        _show_recovery_codes(page, codes, wait=not options.no_confirm)
    _write(store, TokenFile((token,), recovery.RecoverySet.of(codes)), token, counter)
    return codes


def _account(user: str | None) -> files.Account:
    try:
        entry = pwd.getpwnam(user) if user is not None else pwd.getpwuid(os.getuid())
    except KeyError:
        name = user if user is not None else f"uid {os.getuid()}"
        raise EnrolmentFailed(f'no such user: "{name}"', hint="getent passwd lists the users of this host") from None
    if entry.pw_uid != os.getuid() and os.geteuid() != 0:
        raise EnrolmentFailed("only root can enrol somebody else", hint=f"sudo {PROGRAM} --user {entry.pw_name}")
    account = files.Account(entry.pw_name, entry.pw_uid, entry.pw_gid, home=entry.pw_dir)
    account.look_up_groups()  # a way to the home directory may be open to one of them only
    return account


def _settings(store: str | None) -> configuration.Config:
    """Take the host's settings, so that a token goes where the module looks for it."""
    try:
        settings = configuration.load([], files.read_conf)
        if store is None:
            return settings
        given = configuration.load([f"store={store}"], lambda path, required: "")
    except ConfigError as error:
        raise EnrolmentFailed(str(error), hint="an administrator has to correct it") from None
    return given


def _location(settings: configuration.Config, account: files.Account) -> Location:
    try:
        location = Location(settings.store, account)
    except ConfigError as error:
        raise EnrolmentFailed(str(error), hint="--store takes another template") from None
    if not location.in_home and os.geteuid() != 0:
        raise EnrolmentFailed(
            f"tokens of this host are kept by root in {location.path}",
            hint=f"ask an administrator for: {PROGRAM} --user {account.name}",
        )
    return location


def _new_token(options: argparse.Namespace) -> Token:
    if options.type == "hotp" and options.period is not None:
        raise UsageError("--period goes with --type totp", hint="a HOTP token counts and knows no time")
    if not 0 <= options.recovery_codes <= recovery.MAX_CODES:
        raise UsageError(
            f'--recovery-codes: "{options.recovery_codes}" is not 0 to {recovery.MAX_CODES}', hint="10 is usual"
        )
    secret = _read_key(options.key_file) if options.key_file else Secret(os.urandom(KEY_BYTES[options.algorithm]))
    created = int(time.time())
    try:
        if options.type == "hotp":
            return HOTPToken(options.name, secret, algorithm=options.algorithm, digits=options.digits, created=created)
        period_s = 30 if options.period is None else options.period
        return TOTPToken(
            options.name, secret, algorithm=options.algorithm, digits=options.digits, created=created, period_s=period_s
        )
    except ValueError as error:
        raise UsageError(str(error), hint=f"see {PROGRAM} --help") from None


def _read_key(path: str) -> Secret:
    limit = MAX_KEY_BYTES * 4
    try:
        if path == "-":
            text = sys.stdin.read(limit)
        else:
            with open(path, encoding="ascii") as file:
                text = file.read(limit)
        return Secret(decode_base32("".join(text.split()).replace("-", "").rstrip("=").upper()))
    except OSError as error:
        raise EnrolmentFailed(
            f'cannot read the key file "{path}": {os.strerror(error.errno or 0)}', hint="--key-file takes a file, or -"
        ) from None
    except ValueError as error:
        # The text itself may be most of a key; it is not repeated.
        raise EnrolmentFailed(
            f'the key file "{path}" holds no usable key: {_ascii_reason(error)}',
            hint="a key is Base32 (A to Z, 2 to 7), 26 characters or more",
        ) from None


def _ascii_reason(error: ValueError) -> str:
    return "it is not text" if isinstance(error, UnicodeError) else str(error)


def _open(store: Store, *, force: bool) -> State | None:
    """Open the store and make sure there is room for the state, before the person starts scanning."""
    try:
        present = store.open_for_enrolment()
    except BadTokenFile:
        if not force:
            raise
        present = None
    if present is not None and not force:
        raise EnrolmentFailed(
            f'{store.location.account.name} is already enrolled with token "{present.tokens[0].name}"',
            hint=f"{PROGRAM} --force replaces the token and the recovery codes",
        )
    state = store.read_state()
    if state is None:
        store.write_state(State.new())
    return state


def _introduce(screen: terminal.Terminal, token: Token, account: files.Account, qr: str | None) -> None:
    """Show the token in the three ways in which an app can take it."""
    uri = _uri(token, account)
    screen.show(f"Enrolling {account.name} on {os.uname().nodename}.")
    style = qr or ("utf8" if screen.can_show_blocks() else "ansi")
    if style != "none":
        screen.show("Scan this with your app:\n")
        screen.show(_qr(uri, style, colour=screen.has_colour()))
    screen.show(f"\nKey:  {terminal.grouped(encode_base32(token.secret.reveal()))}")
    screen.show(f"URI:  {uri}\n")


def _qr(uri: str, style: str, *, colour: bool) -> str:
    try:
        import segno  # noqa: PLC0415 - a host without it can still enrol by key
    except ImportError:
        raise EnrolmentFailed(
            "QR codes need the segno library", hint="apt install python3-segno, or add --qr none"
        ) from None
    code = segno.make(uri, error="l", micro=False)
    matrix = [list(row) for row in code.matrix_iter(border=terminal.QUIET_MODULES)]
    return terminal.backgrounds(matrix) if style == "ansi" else terminal.half_blocks(matrix, colour=colour)


def _uri(token: Token, account: files.Account) -> str:
    return key_uri.build(token, issuer=os.uname().nodename, account=account.name)


def _confirm(screen: terminal.Terminal, token: Token, before: State | None, settings: configuration.Config) -> int:
    """Have the person type a code, so that a token that was not scanned cannot lock him out.

    Returns:
        Its counter or time step, which is used by that.
    """
    state = before or State.new()
    if token.fingerprint() not in state.last:
        state = state.with_last(token.fingerprint(), NEVER)
    for _ in range(CONFIRMATIONS):
        typed = screen.ask("Code that the app shows:")
        now = int(time.time())
        try:
            answer = policy.read_answer(typed)
            counter = policy.match_otp((token,), state, answer.otp, now=now, config=settings).counter
        except OTPReplayed:
            screen.tell("That code has been used before. Wait for the next one.")
        except Refused:
            screen.tell(f"That code does not fit. {_guess_at_mistake(token, typed, now)}")
        else:
            screen.tell("Right. This code is now spent: use the next one to log in.")
            return counter
    raise EnrolmentFailed(
        "no code was right; nothing was changed", hint="remove the new entry from the app, and start again"
    )


def _guess_at_mistake(token: Token, typed: str, now: int) -> str:
    digits = typed.replace(" ", "")
    if len(digits) != token.digits or not (digits.isascii() and digits.isdecimal()):
        return f"It has {token.digits} digits."
    if isinstance(token, TOTPToken):
        step = now // token.period_s
        for distance in range(-SEARCHED_STEPS, SEARCHED_STEPS + 1):
            if step + distance >= 0 and token.otp_at(step + distance) == digits:
                off_s = abs(distance) * token.period_s
                side = "ahead of" if distance > 0 else "behind"
                return f"The app's clock is about {off_s} s {side} this machine's; one of the two is wrong."
    return "Look at the entry that you have just scanned."


def _show_recovery_codes(screen: terminal.Terminal, codes: list[str], *, wait: bool) -> None:
    if not codes:
        return
    screen.show("\nRecovery codes, for when the token is lost. Each works once, in place of a code:\n")
    for place in range(0, len(codes), 2):
        screen.show("    " + "    ".join(codes[place : place + 2]))
    screen.show("\nThey are not shown again. Keep them on paper, away from this machine.")
    if wait:
        screen.ask("Press Enter when you have them:")


def _write(store: Store, content: TokenFile, token: Token, counter: int) -> None:
    """Write the counter, then the token file, under the lock and without interruption.

    In this order a crash in between leaves a record too many, which harms nobody, and never a token whose confirming
    code could be used again.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        store.lock(LOCK_TIMEOUT_S)
        state = store.read_state() or State.new()
        store.write_state(state.with_last(token.fingerprint(), counter).with_set(content.recovery.name))
        store.write_tokens(content)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _hint_for(error: PathError, location: Location) -> str:
    name = type(error).__name__
    return {
        "InsecureFile": f"only its owner may own and write it: see ls -la {location.path}",
        "NotStored": "make room on the disk and start again",
        "LockTimeout": "a login is using it; start again",
        "BadTokenFile": f"{PROGRAM} --force writes a new one",
        "DamagedState": f"as it is, nobody can tell which codes were used; remove {location.path}/state to start anew",
    }.get(name, "make the directory readable and writable for its owner, and start again")


def _as_json(token: Token, account: files.Account, codes: list[str]) -> dict[str, object]:
    return {
        "name": token.name,
        "type": token.kind,
        "algorithm": token.algorithm,
        "digits": token.digits,
        "period": token.period_s if isinstance(token, TOTPToken) else None,
        "counter": token.counter if isinstance(token, HOTPToken) else None,
        "key": encode_base32(token.secret.reveal()),
        "uri": _uri(token, account),
        "recovery_codes": codes,
    }
