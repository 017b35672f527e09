"""Can a stack say yes without our module having said yes? Follows every way through it that libpam could go. Pure.

A module may return anything, except those few that are known to do one thing.
"""

from __future__ import annotations

from typing import NamedTuple

from pam_softtoken.admin.pam_stack import Line

SUCCESS, IGNORE, FAILURE = "success", "ignore", "failure"
_CODES = (
    "success", "open_err", "symbol_err", "service_err", "system_err", "buf_err", "perm_denied", "auth_err",
    "cred_insufficient", "authinfo_unavail", "user_unknown", "maxtries", "new_authtok_reqd", "acct_expired",
    "session_err", "cred_unavail", "cred_expired", "cred_err", "no_module_data", "conv_err", "authtok_err",
    "authtok_recover_err", "authtok_lock_busy", "authtok_disable_aging", "try_again", "ignore", "abort",
    "authtok_expired", "module_unknown", "bad_item", "conv_again", "incomplete",
)  # fmt: skip
_WORDS = {
    "required": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", "default": "bad"},
    "requisite": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", "default": "die"},
    "sufficient": {"success": "done", "new_authtok_reqd": "done", "default": "ignore"},
    "optional": {"success": "ok", "new_authtok_reqd": "ok", "default": "ignore"},
    "substack": {"default": "ignore"},
}
"""pam.conf(5)."""
_DO_ONE_THING = {"pam_deny.so": (FAILURE,), "pam_permit.so": (SUCCESS,)}
ROOT_OK = "pam_rootok.so"
_UNDECIDED, _YES, _NO = range(3)


class _Way(NamedTuple):
    """How far a way has come.

    Args:
        at: the line that is next.
        impression, success: as libpam counts them.
        ours: our module has said yes, or has proof that the user never enrolled.
        outside: impression and success when each substack around was entered, outermost first.
        blamed: the last line that ended the stack, hopped or reset; None when none did.
    """

    at: int
    impression: int
    success: bool
    ours: bool
    outside: tuple[tuple[int, bool], ...]
    blamed: int | None


def bypass(lines: tuple[Line, ...], *, root_is_asked: bool = False) -> Line | None:
    """Find a line because of which somebody gets in whom our module has not accepted.

    Args:
        lines: of the type `auth`, as `Stack.of` gives them.
        root_is_asked: a way that `pam_rootok` opens counts, too. Otherwise it is taken for what it is there for.

    Returns:
        The line, or None when every way in leads through our module.
    """
    if not lines:
        return None
    start = _Way(0, _UNDECIDED, False, False, (), None)
    waiting, seen = [start], {start}
    while waiting:
        way = waiting.pop()
        if way.at >= len(lines):
            if way.impression == _YES and way.success and not way.ours:
                return lines[way.blamed if way.blamed is not None else len(lines) - 1]
            continue
        for each in _steps(lines, way, root_is_asked=root_is_asked):
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    return None


def actions_of(control: str) -> dict[str, str]:
    """Say what is done for each return code; what cannot be read counts as `bad`, as for libpam."""
    given = _WORDS.get(control)
    if given is None:
        given = dict(word.partition("=")[::2] for word in control.lower().split())
    return {code: given.get(code, given.get("default", "bad")) for code in _CODES}


def _steps(lines: tuple[Line, ...], way: _Way, *, root_is_asked: bool) -> list[_Way]:
    line = lines[way.at]
    outside = way.outside[: line.depth]
    while len(outside) < line.depth:
        outside = (*outside, (way.impression, way.success))
    way = way._replace(outside=outside)
    results = _results(line, root_is_asked=root_is_asked)
    choices = {
        (action, code)
        for code, action in ((_kind(code), action) for code, action in actions_of(line.control).items())
        if code in results
    }
    return [_step(lines, way, action, code) for action, code in sorted(choices)]


def _results(line: Line, *, root_is_asked: bool) -> tuple[str, ...]:
    if line.control == "substack":
        return (SUCCESS,)
    if line.name == ROOT_OK and not root_is_asked:
        return (FAILURE, IGNORE)
    return _DO_ONE_THING.get(line.name, (SUCCESS, IGNORE, FAILURE))


def _kind(code: str) -> str:
    return code if code in (SUCCESS, IGNORE) else FAILURE


def _step(lines: tuple[Line, ...], way: _Way, action: str, code: str) -> _Way:
    line = lines[way.at]
    following = way.at + 1
    impression, success, blamed = way.impression, way.success, way.blamed
    ours = way.ours or (line.is_ours and code in (SUCCESS, IGNORE))
    ends = False
    if action == "reset":
        impression, success = way.outside[-1] if way.outside else (_UNDECIDED, False)
        blamed = way.at
    elif action in ("ok", "done"):
        if impression == _UNDECIDED or (impression == _YES and success):
            impression, success = (impression, success) if code == IGNORE else (_YES, code == SUCCESS)
        ends = action == "done" and impression == _YES
    elif action in ("bad", "die"):
        if impression != _NO:
            impression, success = _NO, False
        ends = action == "die"
    elif action.isdecimal():
        following, complete = _hop(lines, way.at, int(action))
        blamed = way.at
        if not complete:
            impression, success = _NO, False
    if ends:
        blamed = way.at
        while following < len(lines) and lines[following].depth >= line.depth:
            following += 1
    # Whose fault it was is for the message only: one way to each place is enough.
    return _Way(following, impression, success, ours, way.outside, blamed)


def _hop(lines: tuple[Line, ...], at: int, count: int) -> tuple[int, bool]:
    """Give the line where a jump lands, and whether there were enough lines to hop over; a substack counts as one."""
    depth = lines[at].depth
    here = at
    while count and here + 1 < len(lines) and lines[here + 1].depth >= depth:
        here += 1
        while here + 1 < len(lines) and lines[here + 1].depth > depth:
            here += 1
        count -= 1
    return here + 1, count == 0
