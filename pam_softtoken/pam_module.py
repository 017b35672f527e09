"""The PAM entry points: who asks, the conversation, and which PAM code each outcome gets.

`pamh` is what a pam_python module is given. The bridge's backend passes an object with the same attributes, so this
file also runs as it is under pam_python.so. It is the one place that reads the clock for a login.
"""

from __future__ import annotations

import os
import pwd
import sys
import syslog
import time

if not __package__:  # loaded by its path, as pam_python.so does
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from pam_softtoken import config as configuration
from pam_softtoken import errors, files, log, mark, throttle, verifier
from pam_softtoken.verifier import Accepted, Attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pam_softtoken.config import Config

PAM_SILENT = 0x8000
SECOND_PROMPT = "The code after that one:"
UNKNOWN = "(unknown)"
MAX_LOGGED_PROBLEMS = 50  # the bridge takes 64 frames
REFUSAL_STEP_S = 0.1
"""A refusal comes this long after the answer, or a multiple of it, so that its time does not say what was looked at.
Longer than a disk needs to store that an answer was wrong, others to give the lock back, or a recovery code its hash.
"""

OUTCOMES: dict[type[BaseException], tuple[str, int, str]] = {
    errors.OTPMismatch: ("PAM_AUTH_ERR", log.NOTICE, "mismatch"),
    errors.OTPReplayed: ("PAM_AUTH_ERR", log.NOTICE, "replayed"),
    errors.Throttled: ("PAM_AUTH_ERR", log.NOTICE, "throttled"),
    errors.MalformedAnswer: ("PAM_AUTH_ERR", log.NOTICE, "malformed"),
    errors.NotEnrolled: ("PAM_AUTH_ERR", log.NOTICE, "not_enrolled"),
    errors.UnknownUser: ("PAM_AUTH_ERR", log.NOTICE, "unknown_user"),
    errors.InsecureFile: ("PAM_AUTH_ERR", log.ALERT, "insecure_file"),
    errors.UnusableFile: ("PAM_AUTH_ERR", log.ERR, "unusable_file"),
    errors.BadTokenFile: ("PAM_AUTH_ERR", log.ALERT, "bad_token_file"),
    errors.DamagedState: ("PAM_AUTH_ERR", log.ALERT, "damaged_state"),
    errors.LockTimeout: ("PAM_AUTH_ERR", log.ERR, "lock_timeout"),
    errors.NotStored: ("PAM_AUTH_ERR", log.ERR, "not_stored"),
    errors.ConfigError: ("PAM_SERVICE_ERR", log.ERR, "bad_option"),
    errors.ConversationFailed: ("PAM_CONV_ERR", log.NOTICE, "conversation"),
    errors.ProtocolError: ("PAM_CONV_ERR", log.NOTICE, "conversation"),
}
"""For each error the PAM code, the syslog severity and the logged reason. What is not here is denied as `internal`."""


def pam_sm_authenticate(pamh: Any, flags: int, argv: list[str]) -> int:
    """Ask for a code and judge it.

    Args:
        pamh: the PAM handle of pam_python, or the backend's.
        flags: of these only `PAM_SILENT` matters.
        argv: this module's path and its arguments.

    Returns:
        `PAM_SUCCESS` only for an answer that was right and is durably recorded as used, `PAM_IGNORE` only for a user
        who provably never enrolled under `nullok`, otherwise a denial. Raises nothing.
    """
    record = log.Log(getattr(pamh, "log", None) or _syslog_of(pamh))
    try:
        return _authenticate(pamh, flags, argv[1:], record)
    except Exception as error:
        return _deny(pamh, error, record)


def pam_sm_setcred(pamh: Any, flags: int, argv: list[str]) -> int:
    """Nothing to do: a code gives no credentials."""
    return int(pamh.PAM_SUCCESS)


def _authenticate(pamh: Any, flags: int, arguments: list[str], record: log.Log) -> int:
    record.rhost = pamh.rhost or ""
    record.user = UNKNOWN  # a name that the host does not know may be a mistyped password
    config = configuration.load(arguments, files.read_conf)
    record.debugging = config.debug
    attempt, obstacle = _prepare(pamh, config, record)
    try:
        if config.nullok and isinstance(obstacle, errors.NotEnrolled) and obstacle.proven:
            record.outcome(log.INFO, "ignored", "not_enrolled")
            return int(pamh.PAM_IGNORE)
        source = throttle.source_of(record.rhost, _caller_uid(pamh))
        marked = attempt is not None and _is_marked(attempt.account.uid)
        # Whatever stands in the way is only said in the log: to the person all attempts look alike.
        first = _ask(pamh, config, config.prompt)
        second = None
        if attempt is not None and attempt.needs_two_otps and first.replace(" ", "").isdecimal():
            second = _ask(pamh, config, SECOND_PROMPT)
        answered_s = time.monotonic()
        try:
            if obstacle is not None or attempt is None:
                verifier.pretend(first)
                raise obstacle or errors.UnknownUser
            accepted = attempt.verify(first, second, source=source, now=int(time.time()))
        except errors.SoftTokenError as error:
            if isinstance(error, errors.Throttled):
                _tell_to_wait(pamh, flags, error, record)
            _wait_out(answered_s)
            raise
        if attempt.kept_in_memory:
            record.note(log.WARNING, "the file system is read-only; until the next restart /run keeps what was used")
        if not marked:
            _mark(attempt.account.uid, record)
        if accepted.recovery_left is not None:
            attempt.close()  # the person is told, which can take any time, and others may not wait for the lock
        _report(pamh, flags, accepted, record)
    finally:
        if attempt is not None:
            _after(pamh, attempt.close)
    return int(pamh.PAM_SUCCESS)


def _prepare(
    pamh: Any, config: Config, record: log.Log
) -> tuple[Attempt | None, errors.Refused | errors.Unusable | None]:
    """Open the user's files. An obstacle is kept for later, so that the person is asked all the same."""
    try:
        account = _account_of(pamh)
        record.user = account.name
        attempt = Attempt(account, config, now=int(time.time()))
    except (errors.Refused, errors.Unusable) as error:
        record.note(log.DEBUG, f"before the prompt: {type(error).__name__}")
        return None, error
    record.note(log.DEBUG, "before the prompt: token and state file opened")
    return attempt, None


def _after(pamh: Any, work: Callable[[], None]) -> None:
    """Have work done after the verdict has been given; under pam_python that means at once."""
    afterwards = getattr(pamh, "afterwards", None)
    if afterwards is None:
        work()
    else:
        afterwards(work)


def _is_marked(uid: int) -> bool:
    try:
        return mark.is_set(uid)
    except errors.UnusableFile:
        return False


def _mark(uid: int, record: log.Log) -> None:
    try:
        mark.set_for(uid)
    except errors.UnusableFile as error:  # a full disk must not keep the owner out
        record.note(log.WARNING, f"cannot mark the user as enrolled: {error}")


def _account_of(pamh: Any) -> files.Account:
    """Look the user up, unless the bridge has done it already.

    Raises:
        UnknownUser: this host knows no such user.
    """
    user = pamh.get_user(None)
    try:
        known: files.Account | None = pamh.account
    except AttributeError:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise errors.UnknownUser from None
        return files.Account(user, entry.pw_uid, entry.pw_gid, home=entry.pw_dir)
    if known is None:
        raise errors.UnknownUser
    return known


def _caller_uid(pamh: Any) -> int:
    """Give the real uid of the application; under pam_python that is us."""
    try:
        return int(pamh.caller_uid)
    except AttributeError:
        return os.getuid()


def _ask(pamh: Any, config: Config, prompt: str) -> str:
    """Show a prompt and return the answer.

    Raises:
        ConversationFailed: there is none.
    """
    style = pamh.PAM_PROMPT_ECHO_ON if config.echo else pamh.PAM_PROMPT_ECHO_OFF
    try:
        answer = pamh.conversation(pamh.Message(style, prompt + " ")).resp
    except pamh.exception:
        raise errors.ConversationFailed from None
    if answer is None:
        raise errors.ConversationFailed
    return str(answer)


def _report(pamh: Any, flags: int, accepted: Accepted, record: log.Log) -> None:
    """Log a success, and tell the person what a recovery code leaves behind."""
    if accepted.recovery_left is None:
        record.outcome(log.INFO, "accepted", "accepted", token=accepted.token)
        return
    record.outcome(log.INFO, "accepted", "recovery", detail=f"left={accepted.recovery_left}")
    if flags & PAM_SILENT:
        return
    left = f"{accepted.recovery_left} recovery codes left" if accepted.recovery_left != 1 else "1 recovery code left"
    _tell(pamh, pamh.PAM_TEXT_INFO, f"Recovery code accepted; {left}.", record)


def _wait_out(answered_s: float) -> None:
    """Give every refusal one of few times, whatever was refused and why."""
    time.sleep(REFUSAL_STEP_S - (time.monotonic() - answered_s) % REFUSAL_STEP_S)


def _tell_to_wait(pamh: Any, flags: int, error: errors.Throttled, record: log.Log) -> None:
    """Tell how long to wait, but only to somebody who already is the user."""
    account = _account_of(pamh)
    if not record.rhost and _caller_uid(pamh) == account.uid and not flags & PAM_SILENT:
        _tell(pamh, pamh.PAM_ERROR_MSG, f"Too many wrong codes; try again in {error.retry_after_s} s.", record)


def _tell(pamh: Any, style: int, text: str, record: log.Log) -> None:
    """Show a text to the person. What was decided stands, whether the application shows it or not."""
    try:
        pamh.conversation(pamh.Message(style, text))
    except pamh.exception:
        record.note(log.WARNING, "the application did not show a message")


def _deny(pamh: Any, error: Exception, record: log.Log) -> int:
    code, level, reason = OUTCOMES.get(type(error), ("PAM_AUTH_ERR", log.ERR, "internal"))
    if isinstance(error, errors.ConfigError):
        for problem in error.problems[:MAX_LOGGED_PROBLEMS]:
            record.note(level, problem)
        if len(error.problems) > MAX_LOGGED_PROBLEMS:
            record.note(level, f"and {len(error.problems) - MAX_LOGGED_PROBLEMS} more")
        detail = ""
    elif isinstance(error, errors.NotEnrolled) and not error.proven:
        detail = "has been enrolled before, and the token file is gone"
    elif isinstance(error, errors.Throttled):
        detail = f"{error.retry_after_s} s left"
    elif isinstance(error, errors.OTPRefused) and error.clock_off_s != 0:
        side = "ahead of" if error.clock_off_s > 0 else "behind"
        detail = f"the token's clock seems {abs(error.clock_off_s)} s {side} this machine's"
    elif isinstance(error, errors.PathError):
        detail = str(error)
    elif reason == "internal":
        detail = _where(error)  # not its text, which may quote what was typed
    else:
        detail = ""
    token = error.token if isinstance(error, errors.OTPReplayed) else ""
    record.outcome(level, "denied", reason, token=token, detail=detail)
    return int(getattr(pamh, code))


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "nowhere"
    return f"{type(error).__name__} at {place}"


def _syslog_of(pamh: Any) -> Any:
    """Write to the system log ourselves, as pam_syslog would; for pam_python, which has no way to it."""
    prefix = f"pam_softtoken({log.escape(pamh.service or '')}:auth): "

    def send(level: int, line: str) -> None:
        syslog.syslog(syslog.LOG_AUTHPRIV | level, prefix + line)

    return send
