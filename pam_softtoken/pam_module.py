"""The PAM entry points, and the PAM code of each outcome. `pamh` is what pam_python passes to a module. The bridge's
backend passes an object with the same attributes, so this file also runs unchanged under pam_python.so.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # loaded by its path, as pam_python.so does
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from pam_softtoken import config as configuration
from pam_softtoken import errors, log
from pam_softtoken.account import safe_open
from pam_softtoken.login import outcome
from pam_softtoken.login.application import account_of, caller_uid_of
from pam_softtoken.login.login import Login

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAM_SILENT = 0x8000
UNKNOWN = "(unknown)"


def pam_sm_authenticate(pamh: Any, flags: int, argv: list[str]) -> int:
    """Ask for a code and judge it. Raises nothing.

    Args:
        pamh: the PAM handle of pam_python, or the backend's.
        flags: only `PAM_SILENT` matters.
        argv: this module's path and its arguments.

    Returns:
        `PAM_SUCCESS` only if the answer was right and is durably recorded as used. `PAM_IGNORE` only if the user
        provably never enrolled, and only under `nullok`, before the day of `required_from`, or under `enrol`. Under
        `enrol` the user enrols at the `account` line. Everything else is a denial.
    """
    record = log.Log(getattr(pamh, "log", None) or _syslog_of(pamh, "auth"))
    try:
        return _authenticate(pamh, flags, argv[1:], record)
    except Exception as error:
        return _deny(pamh, error, record)


def pam_sm_acct_mgmt(pamh: Any, flags: int, argv: list[str]) -> int:
    """Enrol a user whom the auth phase deferred under `enrol`. Raises nothing.

    Args:
        pamh, flags, argv: as for `pam_sm_authenticate`.

    Returns:
        `PAM_IGNORE` for all other users, and for this user once they are durably enrolled. Otherwise a denial.
    """
    record = log.Log(getattr(pamh, "log", None) or _syslog_of(pamh, "account"))
    try:
        return _manage_account(pamh, flags, argv[1:], record)
    except Exception as error:
        return _deny(pamh, error, record)


def pam_sm_setcred(pamh: Any, flags: int, argv: list[str]) -> int:
    """Return success: a code sets no credentials, so there is nothing to do."""
    return int(pamh.PAM_SUCCESS)


def _authenticate(pamh: Any, flags: int, arguments: list[str], record: log.Log) -> int:
    config = _settings(pamh, arguments, record)
    silent = bool(flags & PAM_SILENT)
    user = pamh.get_user(None)
    login = Login(pamh, config, record, silent=silent)
    try:
        code = pamh.PAM_IGNORE
        if not _may_come_later(pamh, config, record, login, silent=silent):
            login.carry_out()
            code = pamh.PAM_SUCCESS
        _require_still(pamh, user)
    finally:
        login.close()
    return int(code)


def _require_still(pamh: Any, user: str) -> None:
    """Check that the application still names the user that the verdict is about.

    Under the bridge `PAM_USER` cannot change here, and the bridge itself checks it.
    """
    if pamh.get_user(None) != user:
        raise errors.LookUpFailed("the application has changed the user during the attempt")


def _settings(pamh: Any, arguments: list[str], record: log.Log) -> configuration.Config:
    record.rhost = pamh.rhost or ""
    uid = caller_uid_of(pamh)
    record.uid = str(uid) if uid != 0 else ""
    record.trial = uid == 0 and _is_trial(pamh)
    record.user = UNKNOWN  # an unknown name may be a mistyped password
    config = configuration.load(arguments, safe_open.read_conf, relayed=getattr(pamh, "is_relayed", False))
    record.debugging = config.debug
    return config


def _is_trial(pamh: Any) -> bool:
    """Check whether the attempt only tests the module. `softtoken-admin log` need not show such an attempt.

    A guess must never pass for a test. The caller has checked that root started the program. That program sets the
    service's name and PAM's environment, and no host lets its users choose both.
    """
    if not (pamh.service or "").startswith(log.TRIAL_SERVICES):
        return False
    try:
        return bool(pamh.env[log.TRIAL_VARIABLE] == log.TRIAL)
    except (KeyError, pamh.exception):
        return False


def _may_come_later(pamh: Any, config: configuration.Config, record: log.Log, login: Login, *, silent: bool) -> bool:
    """Check whether a user who never enrolled is let through without a code here, and log it."""
    if not (config.nullok or config.enrol or config.required_from) or not login.has_never_enrolled():
        return False
    days_left = login.days_left() if config.required_from else 0
    if days_left > 0:
        record.outcome(log.INFO, "ignored", "not_enrolled", detail=f"required in {days_left} d")
        login.remind(days_left)
        return True
    passes = config.nullok and not config.required_from
    # Without a home, an enrolment would fail. So it is only tried, to say so, where nothing else lets the user in.
    if config.enrol and not (passes and login.has_no_home):
        from pam_softtoken.login import enrolment_offer  # noqa: PLC0415 - once in the life of an account

        if login.account is not None and enrolment_offer.announce(pamh, login.account, record, silent=silent):
            record.outcome(log.INFO, "ignored", "not_enrolled", detail="is to enrol at the account line")
            return True
    if passes:
        detail = "the home directory is not there yet" if login.has_no_home else ""
        record.outcome(log.INFO, "ignored", "not_enrolled", detail=detail)
    return passes


def _manage_account(pamh: Any, flags: int, arguments: list[str], record: log.Log) -> int:
    from pam_softtoken.login import enrolment_offer  # noqa: PLC0415 - as above

    if not enrolment_offer.is_somebody_marked(pamh):
        return int(pamh.PAM_IGNORE)
    config = _settings(pamh, arguments, record)
    user = pamh.get_user(None)
    account = account_of(pamh)
    record.user = account.name
    enrolment_offer.require_marked(pamh, account)
    if not config.enrol:
        raise errors.ConfigError(("enrol: is set for the auth line, and not for the account line",))
    if flags & PAM_SILENT:
        raise errors.EnrolmentRefused("the application wants no messages shown")
    from pam_softtoken.login import login_enrolment  # noqa: PLC0415 - as above

    login_enrolment.Newcomer(pamh, account, config, record).carry_out()
    _require_still(pamh, user)
    del pamh.env[enrolment_offer.MARK]
    return int(pamh.PAM_IGNORE)


def _deny(pamh: Any, error: Exception, record: log.Log) -> int:
    if isinstance(error, errors.LockTimeout) and os.geteuid() == 0:
        from pam_softtoken.account import lock_holder  # noqa: PLC0415 - it has waited for seconds already

        error.holder = lock_holder.describe(error)
    return int(getattr(pamh, outcome.write(record, error)))


def _syslog_of(pamh: Any, kind: str) -> Any:
    """Return our own way to the system log, for pam_python, which has none."""
    from pam_softtoken import system_log  # noqa: PLC0415 - the bridge has its own

    head = log.head(pamh.service or "", kind)
    ours = system_log.SystemLog(log.escape(pamh.service or ""))

    def send(level: int, line: str) -> None:
        ours.write(level, head + line)

    return send
