"""Enrol a user without a token in the login itself. Loaded only on hosts that want this. Imports the standard library,
and segno for the QR code.

A module that is called to authenticate cannot see whether the first factor was right. After a `required` line it is
called even after a wrong password. So the work has two parts. They run in one process or, with sshd, in one child:

1. `announce`, at the `auth` line. The user is ignored, as under `nullok`, and a mark is set in PAM's environment. Being
   ignored adds nothing: unless another module says yes, the whole stack says no. Nothing is asked or shown here.
2. `Newcomer`, at the `account` line. sshd, login and su reach it only after the whole of `auth` has said yes. Without
   the mark it does nothing. Here the key is shown, and here the files are written.

Without the second part, an ignored user would simply be let in. So `announce` checks three things. The program is known
to go on to the `account` line. Our `account` line exists and cannot be bypassed. A password module in front of our
`auth` line keeps out people who do not know the password. It also requires a trace of the first factor: a password in
PAM's hands, or sshd's statement that it has checked a key.

The files are written by the same code as in `softtoken-enroll`, after the last question, in one step. So a cut line or
a power failure leaves the user either enrolled or unchanged.
"""

from __future__ import annotations

import os
import sys
import time

from pam_softtoken import drawing, errors, log
from pam_softtoken.account import cure, enrolled_mark, safe_open
from pam_softtoken.account.editor import UsersEditor
from pam_softtoken.account.location import Location
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.login import answer, policy
from pam_softtoken.otp import hotp, key_uri, recovery_code, token
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import TOTPToken
from pam_softtoken.pam import enrolment_safety, host_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from pam_softtoken.config import Config

MARK, FIRST_FACTORS = "PAM_SOFTTOKEN_ENROL", "SSH_AUTH_INFO_0"
CONFIRMATIONS = 3
RECOVERY_CODES = 10
MAX_MESSAGE_BYTES = 511
"""`PAM_MAX_MSG_SIZE` without its NUL. An application may refuse more."""
MAX_PARTS = 20
"""The limit for a drawing that can be shown twice. The bridge relays 64 frames, and the dialogue has about 23 others.
"""
LIBRARIES = "/usr/lib/python3/dist-packages"
"""Where Debian installs segno. By itself a backend looks only in the standard library."""


def announce(pamh: Any, account: safe_open.Account, record: log.Log, *, silent: bool) -> bool:
    """Check whether a user who provably never enrolled can do so after `auth`, and mark them in PAM's environment if
    so.

    Args:
        pamh: the PAM handle.
        account: the user.
        record: the log.
        silent: the application wants no messages shown.

    Returns:
        False if the user cannot enrol; the log says why.
    """
    try:
        _require_possible(pamh, silent=silent)
        pamh.env[MARK] = _mark_of(account)
    except errors.EnrolmentRefused as error:
        record.note(log.NOTICE, f"no enrolment in this login: {error.why}")
    except errors.ConfigError as error:
        record.note(log.ERR, error.problems[0])
    except pamh.exception:
        record.note(log.ERR, "no enrolment in this login: PAM's environment cannot be used")
    else:
        return True
    return False


def is_somebody_marked(pamh: Any) -> bool:
    """Return whether `announce` has marked a user. If so, the account phase must end in an enrolment."""
    return bool(_variable(pamh, MARK))


def require_marked(pamh: Any, account: safe_open.Account) -> None:
    """Check that the user who is logging in is the user that `announce` marked.

    Another module may have changed the spelling of the name since. The account must be the same.

    Raises:
        EnrolmentRefused: it is another account, which was not asked for a code.
    """
    if _variable(pamh, MARK) != _mark_of(account):
        raise errors.EnrolmentRefused("the user is another one than in the auth phase")


def _mark_of(account: safe_open.Account) -> str:
    return f"{account.uid} {account.name}"


def _require_possible(pamh: Any, *, silent: bool) -> None:
    if silent:
        raise errors.EnrolmentRefused("the application wants no messages shown")
    if os.geteuid() != 0:
        raise errors.EnrolmentRefused("the application does not run as root")
    host_program.require_known(getattr(pamh, "host_pid", None) or os.getpid())  # under pam_python we are in it
    seen_by_host = bool(_variable(pamh, FIRST_FACTORS).strip())
    if not seen_by_host and not pamh.authtok:
        raise errors.EnrolmentRefused("there was no first factor: no password was asked for, and no key was seen")
    enrolment_safety.require_that_enrolment_is_safe(pamh.service or "", factor_seen_by_host=seen_by_host)


def _variable(pamh: Any, name: str) -> str:
    try:
        return str(pamh.env[name])
    except KeyError:
        return ""


class Newcomer:
    """One enrolment in a login, from the first look at the files until the new files are in place.

    Args:
        pamh: the PAM handle.
        account: the user, marked by `announce`.
        config: the settings.
        record: the log.
    """

    __slots__ = ("_codes", "_config", "_location", "_matrix", "_record", "_token", "pamh")

    def __init__(self, pamh: Any, account: safe_open.Account, config: Config, record: log.Log) -> None:
        self.pamh = pamh
        self._config = config
        self._record = record
        self._location = Location(config.store, account)
        secret = token.Secret(os.urandom(token.KEY_BYTES["SHA1"]))
        created = int(time.time())
        self._token = TOTPToken(token.DEFAULT_NAME, secret, algorithm="SHA1", digits=6, created=created)
        self._codes = recovery_code.generate(RECOVERY_CODES)
        # The QR code, while it can still be shown with inverted colours. Empty if none can be drawn.
        self._matrix: list[list[int]] = []

    def carry_out(self) -> None:
        """Show the token, ask for a code of it, and write the files.

        Raises:
            EnrolmentRefused, ConversationFailed, PathError: the login is denied, and nothing was changed.
        """
        try:
            self._rehearse()
        except (errors.PathError, errors.EnrolmentRefused) as error:
            cure.add_to(error, self._location)
            self._tell("This host asks for a code at each login, and a soft token for it cannot be stored now.")
            raise
        try:
            self._introduce()
            match, now = self._confirm()
            self._hand_out_codes()
            self._write(match, now)
        except (errors.PathError, errors.EnrolmentRefused) as error:
            what = "The new token could not be stored" if isinstance(error, errors.PathError) else "Not enrolled"
            cure.add_to(error, self._location)
            self._tell(f"{what}; nothing was changed. Remove the new entry from the app, and log in again.")
            raise
        try:
            enrolled_mark.set_for(self._location.account)
        except errors.UnusableFile as error:  # the token counts, marked or not
            self._record.note(log.WARNING, f"cannot mark the user as enrolled: {error}")
        self._record.outcome(log.INFO, "accepted", "enrolled", token=self._token.name)
        name = self._location.account.name
        self._tell(f'Done. {name} is enrolled with token "{self._token.name}"; the next login asks for its next code.')

    def _rehearse(self) -> None:
        """Check that the files can be written, before anything is shown. Leaves nothing behind."""
        # The path to the home directory may be open only to one of the user's groups.
        self._location.account.look_up_groups()
        store = UsersEditor(self._location)
        try:
            self._require_not_enrolled(store.open_for_enrolment())
            store.begin_state()
            store.require_room(TokenFile((self._token,), RecoverySet(bytes(16), _HASHES_OF_NOTHING)))
        finally:
            store.withdraw()
            store.close()

    def _require_not_enrolled(self, present: TokenFile | None) -> None:
        if present is not None or enrolled_mark.was_accepted(self._location.account):
            raise errors.EnrolmentRefused("somebody has enrolled the user meanwhile")

    def _introduce(self) -> None:
        """Show the token in the three forms that an app can read."""
        account = self._location.account
        uri = key_uri.build(self._token, issuer=os.uname().nodename, account=account.name)
        self._tell(f"This host asks for a code at each login, and {account.name} has no soft token yet.")
        self._matrix = _matrix_of(uri)
        self._tell(
            "Scan this with an authenticator app:" if self._matrix else "Type this key into an authenticator app:"
        )
        self._draw(self._matrix)
        self._tell(f"Key:  {drawing.grouped(token.encode_base32(self._token.secret.reveal()))}")
        if len(f"URI:  {uri}".encode()) <= MAX_MESSAGE_BYTES:
            self._tell(f"URI:  {uri}")
        if self._matrix:
            self._tell("If the app does not see the QR code, on a light background, press Enter without a code.")

    def _draw(self, matrix: list[list[int]]) -> None:
        """Show a QR code without colours, because OpenSSH's client shows no control characters.

        So the background has to be guessed. The first guess is dark, where the light modules have to be drawn.
        """
        drawn = drawing.half_blocks(matrix, colour=False) if matrix else ""
        for part in _in_parts(drawn):
            self._tell(part)

    def _confirm(self) -> tuple[policy.Finding, int]:
        """Ask for a code, so that a token that was not scanned cannot lock the user out."""
        limits = policy.Limits.of(self._config)
        question = "Code that the app shows: "
        for left in range(CONFIRMATIONS - 1, -1, -1):
            typed = self._ask(question, shown=self._config.echo)
            if self._matrix and not typed.strip():
                inverted, self._matrix = [[1 - module for module in row] for row in self._matrix], []
                self._draw(inverted)
                typed = self._ask(question, shown=self._config.echo)
            now = int(time.time())
            try:
                code = answer.read_code(typed).otp
                match = policy.confirm(self._token, State.new(), code, now=now, limits=limits)
            except errors.Refused:
                if left:
                    self._tell(
                        f"That code does not fit. Look at the entry that you have just made; {left} left to try."
                    )
            else:
                self._tell("Right. That code cannot be used again.")
                return match, now
        why = f"no code of the new token in {CONFIRMATIONS} answers"
        now = int(time.time())
        if now < hotp.RELEASED:
            why += f"; this machine's clock says {errors.day_of(now)}, so none was right: timedatectl set-time"
        raise errors.EnrolmentRefused(why)

    def _hand_out_codes(self) -> None:
        rows = ["    " + "    ".join(self._codes[place : place + 2]) for place in range(0, len(self._codes), 2)]
        self._tell("Recovery codes, for when the token is lost. Each works once, in place of a code:")
        self._tell("\n".join(rows))
        self._tell("They are not shown again. Keep them on paper, away from this machine.")
        self._ask("Press Enter when you have them: ", shown=True)

    def _write(self, match: policy.Finding, now: int) -> None:
        content = TokenFile((self._token,), RecoverySet.of(self._codes))

        def change(present: TokenFile | None, state: State) -> tuple[TokenFile, State]:
            self._require_not_enrolled(present)
            state = state.with_accepted(self._token.fingerprint(), match.counter, drift=match.drift, now=now)
            return content, state.with_set(content.recovery.name).without_graces()

        store = _Entrance(self._location)
        try:
            store.open_for_enrolment()
            store.begin_state()
            store.exchange(change, _nothing_more)
        except errors.Revoked:
            store.withdraw()
            raise errors.EnrolmentRefused("an administrator has revoked everything meanwhile") from None
        except errors.EnrolmentFailed as error:
            store.withdraw()
            raise errors.EnrolmentRefused(str(error)) from None
        except BaseException:
            store.withdraw()
            raise
        finally:
            store.close()

    def _tell(self, text: str) -> None:
        """Show a text. It does not matter if the application fails to: everything important is asked."""
        try:
            self.pamh.conversation(self.pamh.Message(self.pamh.PAM_TEXT_INFO, text))
        except self.pamh.exception:
            self._record.note(log.WARNING, "the application did not show a message")

    def _ask(self, question: str, *, shown: bool) -> str:
        style = self.pamh.PAM_PROMPT_ECHO_ON if shown else self.pamh.PAM_PROMPT_ECHO_OFF
        try:
            typed = self.pamh.conversation(self.pamh.Message(style, question)).resp
        except self.pamh.exception:
            raise errors.ConversationFailed from None
        if typed is None:
            raise errors.ConversationFailed
        return str(typed)


class _Entrance(UsersEditor):
    """The files of a user whose own change lets them in. So this class looks for revocations as a login does."""

    __slots__ = ()

    def _require_not_revoked(self) -> None:
        self._revocation.require_unchanged()


_HASHES_OF_NOTHING = tuple(bytes((number,)) * 16 for number in range(RECOVERY_CODES))
"""Placeholders with the length of the recovery codes' hashes. The real hashes take a while."""


def _nothing_more() -> None:
    pass


def _matrix_of(uri: str) -> list[list[int]]:
    """Return a QR code; 1 is dark. It is empty if the library is missing or a long name makes the code too large."""
    segno = _load_segno()
    if segno is None:
        return []
    code = segno.make(uri, error="l", micro=False)
    matrix = [list(row) for row in code.matrix_iter(border=drawing.QUIET_MODULES)]
    return matrix if len(_in_parts(drawing.half_blocks(matrix, colour=False))) <= MAX_PARTS else []


def _load_segno() -> ModuleType | None:
    """Return the module segno, imported from the host's packages. It is imported only if nobody but root could have put
    it there.
    """
    path = f"{LIBRARIES}/segno"
    while path:
        try:
            status = os.lstat(path)
        except OSError:
            return None
        if status.st_uid != 0 or status.st_mode & 0o022:
            return None
        path = path.rpartition("/")[0]
    sys.path.append(LIBRARIES)
    try:
        import segno  # noqa: PLC0415 - the only module that is not of the standard library
    except ImportError:
        return None
    finally:
        sys.path.remove(LIBRARIES)
    return segno


def _in_parts(drawn: str) -> list[str]:
    """Return a drawing cut between its lines. Each part has a length that every application must be able to show."""
    parts: list[str] = []
    for line in drawn.split("\n") if drawn else []:
        joined = f"{parts[-1]}\n{line}" if parts else line
        if parts and len(joined.encode()) <= MAX_MESSAGE_BYTES:
            parts[-1] = joined
        else:
            parts.append(line)
    return parts
