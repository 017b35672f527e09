"""The meaning of each error: its PAM code and its line in the log. This is the only table of both. Imports only the
errors and the log's format.
"""

from __future__ import annotations

from pam_softtoken import errors, log

ELSEWHERE = "softtoken-admin doctor"
MAX_LOGGED_PROBLEMS = 50  # the bridge takes 64 frames

OUTCOMES: dict[type[BaseException], tuple[str, int, str]] = {
    errors.OTPMismatch: ("PAM_AUTH_ERR", log.NOTICE, "mismatch"),
    errors.OTPReplayed: ("PAM_AUTH_ERR", log.NOTICE, "replayed"),
    errors.CodeExpired: ("PAM_AUTH_ERR", log.NOTICE, "expired"),
    errors.Throttled: ("PAM_AUTH_ERR", log.NOTICE, "throttled"),
    errors.MalformedAnswer: ("PAM_AUTH_ERR", log.NOTICE, "malformed"),
    errors.NotEnrolled: ("PAM_AUTH_ERR", log.NOTICE, "not_enrolled"),
    errors.Revoked: ("PAM_AUTH_ERR", log.NOTICE, "revoked"),
    errors.EnrolmentRefused: ("PAM_AUTH_ERR", log.NOTICE, "enrolment"),
    errors.PINMissing: ("PAM_AUTH_ERR", log.NOTICE, "pin_missing"),
    errors.UnknownUser: ("PAM_AUTH_ERR", log.NOTICE, "unknown_user"),
    errors.NotRelayed: ("PAM_AUTH_ERR", log.NOTICE, "relay"),
    errors.LookUpFailed: ("PAM_AUTH_ERR", log.ERR, "backend"),
    errors.InsecureFile: ("PAM_AUTH_ERR", log.ALERT, "insecure_file"),
    errors.NoHome: ("PAM_AUTH_ERR", log.ERR, "no_home"),
    errors.UnusableFile: ("PAM_AUTH_ERR", log.ERR, "unusable_file"),
    errors.BadTokenFile: ("PAM_AUTH_ERR", log.ALERT, "bad_token_file"),
    errors.OtherAccount: ("PAM_AUTH_ERR", log.ALERT, "other_account"),
    errors.Sealed: ("PAM_AUTH_ERR", log.ALERT, "sealed"),
    errors.DamagedState: ("PAM_AUTH_ERR", log.ALERT, "damaged_state"),
    errors.LockTimeout: ("PAM_AUTH_ERR", log.ERR, "lock_timeout"),
    errors.NotStored: ("PAM_AUTH_ERR", log.ERR, "not_stored"),
    errors.NotSynced: ("PAM_AUTH_ERR", log.ERR, "not_stored"),
    errors.ConfigError: ("PAM_SERVICE_ERR", log.ERR, "bad_option"),
    errors.ConversationFailed: ("PAM_CONV_ERR", log.NOTICE, "conversation"),
    errors.ProtocolError: ("PAM_CONV_ERR", log.NOTICE, "conversation"),
}
"""For each error: the PAM code, the syslog severity and the logged reason. Any other error is denied as `internal`."""


def write(record: log.Log, error: Exception, *, more: str = "") -> str:
    """Write the line that says why an attempt was refused.

    Args:
        record: the attempt's log.
        error: the cause.
        more: what else is known, behind what the error says.

    Returns:
        The name of the PAM code.
    """
    code, level, reason = OUTCOMES.get(type(error), ("PAM_AUTH_ERR", log.ERR, "internal"))
    if isinstance(error, errors.ConfigError):
        for problem in error.problems[:MAX_LOGGED_PROBLEMS]:
            record.note(level, problem)
        if len(error.problems) > MAX_LOGGED_PROBLEMS:
            record.note(level, f"and {len(error.problems) - MAX_LOGGED_PROBLEMS} more")
        detail = ""
    elif isinstance(error, errors.Revoked):
        detail = "by softtoken-admin revoke"
    elif isinstance(error, errors.NotEnrolled):
        detail = _absence(error)
    elif isinstance(error, (errors.OTPRefused, errors.Throttled)):
        detail = "; ".join(_times_in_words(error, record.user))
    elif isinstance(error, (errors.PathError, errors.LookUpFailed)):
        detail = _with_cure(str(error), error)
    elif isinstance(error, (errors.EnrolmentRefused, errors.NotRelayed)):
        detail = error.why
    elif reason == "internal":
        detail = _where(error)  # not the error's text, which may quote what was typed
    else:
        detail = ""
    if more:
        detail = f"{detail}; {more}" if detail else more
    token = error.token if isinstance(error, errors.OTPReplayed) else ""
    record.outcome(level, "denied", reason, token=token, detail=detail)
    return code


def _times_in_words(error: errors.OTPRefused | errors.Throttled, user: str) -> list[str]:
    if isinstance(error, errors.CodeExpired):
        begins = errors.in_words(error.begins_in_s)
        return [f"by this machine's clock the code is issued in {begins}: it was set back"] if error.begins_in_s else []
    wait = [f"{error.retry_after_s} s left"] if isinstance(error, errors.Throttled) else []
    return [*wait, _clock_in_words(error.clock, user)] if error.clock is not None else wait


def _clock_in_words(doubt: errors.ClockDoubt, user: str) -> str:
    """Return in words which clock seems wrong: one clause for an administrator, who reads it later in the log. The user
    reads longer texts at a program, from `code_check`, and about a new token from `enrolment_dialogue`.
    """
    if doubt.kind == doubt.APP:
        side = "ahead of" if doubt.seconds > 0 else "behind"
        return f"the token's clock seems {abs(doubt.seconds)} s {side} this machine's"
    if doubt.kind == doubt.UNSET:
        day = errors.day_of(doubt.seconds)
        return f"this machine's clock says {day}, so no code of an app is right; timedatectl set-time sets it"
    later = errors.in_words(doubt.seconds)
    if doubt.kind == doubt.RECORD:
        what = f"the record is from the future: a code of {later} later was accepted while the clock was ahead"
        return f"{what}; softtoken-admin reset-state {user}"
    what = f"a code of {later} later was accepted, or the token enrolled then"
    return f"{what}: set a clock that is wrong now; if it is right, softtoken-admin reset-state {user}"


def _absence(error: errors.NotEnrolled) -> str:
    if error.why:
        return error.why
    if error.proven:
        return _with_cure(f"{error.path}: there is no such file", error) if error.path else ""
    place = f"{error.path}: " if error.path else ""
    return _with_cure(f"{place}has been enrolled before, and the token file is gone", error)


def _with_cure(what: str, error: errors.SoftTokenError) -> str:
    """Add what helps. A command that the line would cut or escape is another command, so it is left out."""
    if not error.cure:
        return what
    detail = f"{what}; {error.cure}"
    return detail if log.quoted(detail).endswith(f'; {error.cure}"') else f"{what}; for what helps: {ELSEWHERE}"


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return f"{type(error).__name__} at nowhere"
    frame = trace.tb_frame
    file = frame.f_globals.get("__file__", frame.f_code.co_filename)  # code of the bundle has only the end of its path
    return f"{type(error).__name__} at {file}:{trace.tb_lineno}"
