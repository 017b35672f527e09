"""`softtoken-enroll`: link a soft token to an account: show the key, confirm it by a code, show recovery codes, write.

Nothing that was there before changes until the last step, whatever interrupts it.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import pwd
import sys
import time
from typing import NoReturn

from pam_softtoken import answer, check, files, handout, otp, policy, printout, recovery, terminal, volatile
from pam_softtoken import config as configuration
from pam_softtoken.errors import (
    BadTokenFile,
    CheckFailed,
    ConfigError,
    DamagedState,
    EnrolmentFailed,
    InsecureFile,
    LockTimeout,
    OTPReplayed,
    PathError,
    Refused,
    UsageError,
)
from pam_softtoken.state import NEVER, State
from pam_softtoken.store import ENROLMENT_LOCK_TIMEOUT_S, Location, Store
from pam_softtoken.token import (
    KEY_BYTES,
    HOTPToken,
    Secret,
    Token,
    TOTPToken,
    decode_base32,
)
from pam_softtoken.tokenfile import TokenFile

PROGRAM = "softtoken-enroll"
CONFIRMATIONS = 3
MAX_KEY_FILE_BYTES = 1024

DESCRIPTION = "Link a soft token (an app that shows one-time codes) to this account."
EPILOG = """\
examples:
  softtoken-enroll
      enrol yourself: scan, confirm, keep the recovery codes
  softtoken-enroll --force
      replace the token, for instance after the phone was lost
  softtoken-enroll --type hotp
      a token that counts instead of going by the clock
  softtoken-enroll --check
      does the app's code work, and if not, why?
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
    parser.add_argument_group("instead of enrolling").add_argument(
        "--check", action="store_true", help="try a code through PAM and say what is wrong; it is spent by that"
    )
    how = parser.add_argument_group("how it is shown")
    how.add_argument("--qr", choices=("utf8", "ansi", "none"), help="how the QR code is drawn (default: what fits)")
    how.add_argument("--png", metavar="FILE", help="the QR code as a picture, too, in a new file")
    how.add_argument("--svg", metavar="FILE", help="the same, as SVG")
    how.add_argument(
        "--sheet", metavar="FILE.html", help="a page to print, in a new file: QR code, key, recovery codes, what to do"
    )
    how.add_argument("--no-confirm", action="store_true", help="ask nothing; write at once")
    how.add_argument("--json", action="store_true", help="one JSON object on stdout, for programs")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the program: exit status 0 done, 1 failed, 2 usage."""
    # A caller's umask could make files that lock their owner out.
    os.umask(0o077)
    return terminal.run(PROGRAM, lambda screen: _enrol(screen, arguments))


def _enrol(screen: terminal.Terminal, arguments: list[str] | None) -> None:
    options = build_parser().parse_args(arguments)
    account = _account(options.user)
    settings = _settings(options.store)
    location = _location(settings, account)
    if options.check:
        _check(screen, options, location, settings)
        return
    if not options.no_confirm and not terminal.person_is_there():
        raise EnrolmentFailed(
            "there is no terminal to ask for a code on", hint="run it in a terminal, or add --no-confirm"
        )
    token = _new_token(options)
    terminal.checkpoint()
    store = Store(location)
    try:
        with printout.Printout(png=options.png, svg=options.svg, sheet=options.sheet) as printed:
            Enrolment(screen, options, token, store=store, settings=settings, printed=printed).carry_out()
    except PathError as error:
        store.withdraw()
        raise EnrolmentFailed(f"{error}; nothing was changed", hint=_hint_for(error, location)) from None
    except BaseException:
        store.withdraw()
        raise
    finally:
        store.close()
    if not options.json:
        screen.tell(f'Done. {account.name} is enrolled with token "{token.name}", in {location.path}.')
        printed.advise(screen)


def _check(
    screen: terminal.Terminal, options: argparse.Namespace, location: Location, settings: configuration.Config
) -> None:
    printout.refuse_beside("--check", options.png, options.svg, options.sheet)
    if options.json:
        raise UsageError("--check has no result for programs", hint="its exit status is 0 if the code was accepted")
    if not terminal.person_is_there():
        raise UsageError("--check asks for a code, and there is no terminal", hint="run it in a terminal")
    try:
        check.check(screen, location, settings, store=options.store)
    except PathError as error:
        raise CheckFailed(str(error), hint=_hint_for(error, location)) from None


class Enrolment:
    """One enrolment, from the first look at what is there to the moment when the new files are in place.

    Args:
        screen: where results go.
        options: the command line.
        token: what is to be enrolled.
        store: where.
        settings: the host's.
        printed: the files that are made for the person.
    """

    def __init__(
        self,
        screen: terminal.Terminal,
        options: argparse.Namespace,
        token: Token,
        *,
        store: Store,
        settings: configuration.Config,
        printed: printout.Printout,
    ) -> None:
        self._screen = screen
        # With --json stdout is for the one object, and the person reads on stderr.
        self._page = terminal.Terminal(PROGRAM, results=sys.stderr) if options.json else screen
        self._options = options
        self._token = token
        self._store = store
        self._settings = settings
        self._printed = printed

    def carry_out(self) -> None:
        """Go through the dialogue and write.

        Raises:
            EnrolmentFailed, PathError, KeyboardInterrupt: nothing was changed but what `Store.withdraw` takes away.
        """
        options = self._options
        self._screen.require_open()
        self._require_free_or_force()
        self._store.begin_state()
        codes = recovery.generate(options.recovery_codes)
        counter = NEVER
        self._printed.fill_pictures(self._token, self._store.location.account)
        if not (options.no_confirm and options.json):
            handout.introduce(self._page, self._token, self._store.location.account, options.qr)
            self._printed.announce(self._page)
            if not options.no_confirm:
                counter = self._confirm()
            handout.show_recovery_codes(self._page, codes, wait=not options.no_confirm)
        self._printed.fill_sheet(self._token, self._store.location.account, codes)
        self._write(TokenFile((self._token,), recovery.RecoverySet.of(codes)), codes, counter)

    def _require_free_or_force(self) -> None:
        try:
            present = self._store.open_for_enrolment()
        except BadTokenFile:
            if not self._options.force:
                raise
            return
        if present is not None and not self._options.force:
            raise EnrolmentFailed(
                f'{self._store.location.account.name} is already enrolled with token "{present.tokens[0].name}"',
                hint=f"{PROGRAM} --force replaces the token and the recovery codes",
            )

    def _confirm(self) -> int:
        """Have the person type a code, so that a token that was not scanned cannot lock him out.

        Returns:
            Its counter or time step, which is used by that.
        """
        token = self._token
        for _ in range(CONFIRMATIONS):
            typed = self._page.ask("Code that the app shows:")
            now = int(time.time())
            # A login may have used a code in the meantime, where the key was enrolled before.
            state = (self._store.read_state() or State.new()).with_last(token.fingerprint(), NEVER)
            try:
                otps = {token.digits: answer.read_code(typed).otp}
                counter = policy.match_otp((token,), state, otps, now=now, config=self._settings).counter
            except OTPReplayed:
                self._page.tell("That code has been used before. Wait for the next one.")
            except Refused:
                self._page.tell(f"That code does not fit. {_guess_at_mistake(token, typed, now)}")
            else:
                self._page.tell("Right. This code is now spent: use the next one to log in.")
                return counter
        raise EnrolmentFailed(
            "no code was right; nothing was changed", hint="remove the new entry from the app, and start again"
        )

    def _write(self, content: TokenFile, codes: list[str], counter: int) -> None:
        """Write the counter, then put the token file in its place, under the lock.

        In this order a crash in between leaves a record too many, which harms nobody, and never a token whose
        confirming code could be used again. All that can fail comes first.
        """
        store, token = self._store, self._token
        store.lock(ENROLMENT_LOCK_TIMEOUT_S)
        self._require_unchanged()
        state = store.read_state() or State.new()
        if counter != NEVER and state.last.get(token.fingerprint(), NEVER) >= counter:
            raise EnrolmentFailed(
                "the code that confirmed was used by a login meanwhile; nothing was changed",
                hint="start again, with the next code",
            )
        replacement = store.prepare_tokens(content)
        with store.location.as_owner():
            try:
                terminal.checkpoint()
                if self._options.json:
                    self._screen.show(json.dumps(handout.as_json(token, store.location.account, codes)))
                store.write_state(state.with_last(token.fingerprint(), counter).with_set(content.recovery.name))
            except BaseException:
                replacement.discard()
                raise
            replacement.put()

    def _require_unchanged(self) -> None:
        """Make sure that without --force nothing is replaced that came while the person was busy."""
        if not self._options.force and self._store.has_tokens():
            raise EnrolmentFailed(
                f"{self._store.location.account.name} is already enrolled, by somebody who was quicker",
                hint=f"{PROGRAM} --force replaces the token and the recovery codes",
            )


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
    given = [] if store is None else [f"store={store}"]
    try:
        configuration.load(given, lambda path, required: "")
    except ConfigError as error:
        raise UsageError(
            f"--store {error.problems[0].partition('store ')[2]}", hint="as in --store %h/.softtoken"
        ) from None
    try:
        return configuration.load(given, files.read_conf)
    except ConfigError as error:
        raise EnrolmentFailed(str(error), hint="an administrator has to correct it") from None


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
    secret = (
        _read_key(options.key_file)
        if options.key_file is not None
        else Secret(os.urandom(KEY_BYTES[options.algorithm]))
    )
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
    try:
        if path != "-":
            with open(path, "rb") as file:
                data = file.read(MAX_KEY_FILE_BYTES + 1)
        elif sys.stdin is not None:
            data = sys.stdin.buffer.read(MAX_KEY_FILE_BYTES + 1)
        else:
            raise OSError(errno.EBADF, "")
    except OSError as error:
        raise EnrolmentFailed(
            f'cannot read the key file "{path}": {os.strerror(error.errno or 0)}', hint="--key-file takes a file, or -"
        ) from None
    try:
        if len(data) > MAX_KEY_FILE_BYTES or not data.isascii():
            raise ValueError("not canonical Base32")
        text = "".join(data.decode("ascii").split())
        return Secret(decode_base32(text.replace("-", "").rstrip("=").upper()))
    except ValueError as error:
        # The text itself may be most of a key; it is not repeated.
        raise EnrolmentFailed(
            f'the key file "{path}" holds no usable key: {error}',
            hint="a key is Base32 (A to Z, 2 to 7), 26 characters or more",
        ) from None


def _guess_at_mistake(token: Token, typed: str, now: int) -> str:
    digits = typed.replace(" ", "")
    if len(digits) != token.digits or not (digits.isascii() and digits.isdecimal()):
        return f"It has {token.digits} digits."
    narrow = configuration.Config(window=0)
    off_s = policy.clock_off_s((token,), State.new(), {token.digits: digits}, now=now, config=narrow)
    if off_s != 0:
        side = "ahead of" if off_s > 0 else "behind"
        return f"The app's clock is about {abs(off_s)} s {side} this machine's; one of the two is wrong."
    return "Look at the entry that you have just scanned."


def _hint_for(error: PathError, location: Location) -> str:
    if error.why in (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)):
        return "make room on the disk and start again"
    if error.path.startswith(volatile.DIRECTORY):
        if isinstance(error, DamagedState):
            return f"it said which codes were used while the home was read-only; as root, remove {error.path}"
        return "root keeps there what was used while the home was read-only, until the next login through sshd or su"
    return {
        InsecureFile: f"only its owner may own and write it: see ls -la {location.path}",
        LockTimeout: "a login is using it; start again",
        BadTokenFile: f"{PROGRAM} --force writes a new one",
        DamagedState: f"as it is, nobody can tell which codes were used; remove {location.path}/state to start anew",
    }.get(type(error), "make the directory readable and writable for its owner, and start again")
