"""Check whether a user without a token may enrol in this login, and mark them. Loaded only on hosts that want this.

A module that is called to authenticate cannot see whether the first factor was right. After a `required` line it is
called even after a wrong password. So the work has two parts. They run in one process or, with sshd, in one child:

1. `announce`, at the `auth` line. The user is ignored, as under `nullok`, and a mark is set in PAM's environment. Being
   ignored adds nothing: unless another module says yes, the whole stack says no. Nothing is asked or shown here.
2. `login_enrolment.Newcomer`, at the `account` line. sshd, login and su reach it only after the whole of `auth` has
   said yes. Without the mark nothing happens there. With it, the key is shown, and the files are written.

Without the second part, an ignored user would simply be let in. So `announce` checks three things. The program is known
to go on to the `account` line. Our `account` line exists and cannot be bypassed. A password module in front of our
`auth` line keeps out people who do not know the password. It also requires a trace of the first factor: a password in
PAM's hands, or sshd's statement that it has checked a key.
"""

from __future__ import annotations

import os

from pam_softtoken import errors, log
from pam_softtoken.pam import enrolment_safety, host_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_softtoken.account.safe_open import Account

MARK, FIRST_FACTORS = "PAM_SOFTTOKEN_ENROL", "SSH_AUTH_INFO_0"


def announce(pamh: Any, account: Account, record: log.Log, *, silent: bool) -> bool:
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


def require_marked(pamh: Any, account: Account) -> None:
    """Check that the user who is logging in is the user that `announce` marked.

    Another module may have changed the spelling of the name since. The account must be the same.

    Raises:
        EnrolmentRefused: it is another account, which was not asked for a code.
    """
    if _variable(pamh, MARK) != _mark_of(account):
        raise errors.EnrolmentRefused("the user is another one than in the auth phase")


def _mark_of(account: Account) -> str:
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
