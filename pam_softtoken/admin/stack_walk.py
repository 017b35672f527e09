"""All ways through a PAM stack, as Linux-PAM goes them: whether one of them leads in past our module.

Pure. Source: what `_pam_dispatch_aux` of libpam 1.5.2 does with the return codes, and pam.conf(5) for the words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pam_softtoken.admin.pam_stack import PASSWORD_MODULES, Line

SUCCESS, DENIED, IGNORED = "success", "auth_err", "ignore"
_OTHER = "any other"
"""A code that no control names, so that `default` counts."""
_WORDS = {
    "required": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", "default": "bad"},
    "requisite": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", "default": "die"},
    "sufficient": {"success": "done", "new_authtok_reqd": "done", "default": "ignore"},
    "optional": {"success": "ok", "new_authtok_reqd": "ok", "default": "ignore"},
}
OF_ROOT = frozenset({"pam_rootok.so"})
"""Who is root already need not be asked."""
SELECTING = frozenset(
    f"pam_{name}.so"
    for name in ("succeed_if", "listfile", "access", "wheel", "localuser", "time", "group", "usertype", "exec")
)
"""They choose for whom the rest of a stack is; an administrator wrote them for that."""
NEUTRAL = frozenset(
    f"pam_{name}.so"
    for name in ("permit", "env", "cap", "group", "faildelay", "faillock", "tally2", "nologin", "securetty", "limits",
    "echo", "warn", "keyinit", "mail", "motd", "umask", "issue", "lastlog", "loginuid", "gnome_keyring", "kwallet5",
    "ecryptfs", "mount", "selinux", "systemd", "shells", "debug", "mkhomedir")
)  # fmt: skip
"""They prove nothing about anybody."""
_UNDECIDED, _POSITIVE, _NEGATIVE = 0, 1, 2
_ACTIONS = frozenset({"ok", "done", "bad", "die", "ignore", "reset"})


class End(NamedTuple):
    """How one way through a stack ended.

    Args:
        is_in: PAM said yes.
        ours: the last return code of our module; empty when it was not run.
        past: the line that led past ours, or made it be forgotten; None when nothing did.
        open_minded: when ours was run, nothing had said no.
    """

    is_in: bool
    ours: str
    past: int | None
    open_minded: bool


class _At(NamedTuple):
    """How far a way has come.

    Args:
        place: the line that is next.
        impression, fine: as libpam counts them; whether the result so far is success.
        ours, past, open_minded: as in `End`.
        outside: impression and fine when each substack around was entered, outermost first.
    """

    place: int
    impression: int
    fine: bool
    ours: str
    past: int | None
    open_minded: bool
    outside: tuple[tuple[int, bool], ...] = ()


def actions_of(control: str) -> dict[str, str]:
    """Give what a control does for each return code; `default` is there always."""
    if control in _WORDS:
        return _WORDS[control]
    actions = {"default": "bad"}
    for word in control.split():
        code, _, action = word.lower().partition("=")
        if action in _ACTIONS or action.isdecimal():
            actions[code] = action
    return actions


def anything(line: Line) -> set[str]:
    """Say what a module can answer: whatever its line makes a difference for."""
    if line.is_ours:
        return {SUCCESS, IGNORED, DENIED, "service_err", "conv_err", "module_unknown"}
    if line.name == "pam_deny.so":
        return {DENIED}
    if line.name == "pam_permit.so":
        return {SUCCESS}
    return {SUCCESS, DENIED, IGNORED, _OTHER, *actions_of(line.control)} - {"default"}


def nobody_is_root(line: Line) -> set[str]:
    """The same, for somebody who is not root before he starts."""
    return {DENIED, IGNORED} if line.name in OF_ROOT else anything(line)


def no_first_factor(line: Line) -> set[str]:
    """The same, for somebody who proves nothing but the code."""
    return anything(line) if line.is_ours or line.name in NEUTRAL else {DENIED}


def ends(lines: Sequence[Line], answers: Callable[[Line], set[str]] = anything) -> set[End]:
    """Go all ways through the lines of one type.

    Args:
        lines: in order, with those of substacks behind their heads.
        answers: what the module of a line can answer.
    """
    found: set[End] = set()
    waiting = [_At(0, _UNDECIDED, True, "", None, False)]
    seen = set(waiting)
    while waiting:
        at = waiting.pop()
        if at.place >= len(lines):
            found.add(End(at.impression == _POSITIVE and at.fine, at.ours, at.past, at.open_minded))
            continue
        for following in _steps(lines, at, answers):
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    return found


def bypass(lines: Sequence[Line], *, root_is_asked: bool = False) -> Line | None:
    """Find a line because of which somebody gets in whom our module has not accepted, nor passed over.

    Args:
        lines: of the type `auth`.
        root_is_asked: a way that `pam_rootok` opens counts, too. Otherwise it is taken for what it is there for.

    Returns:
        The line, the last one where it is nobody's fault, or None when every way in leads through our module.
    """
    found = ends(lines, anything if root_is_asked else nobody_is_root)
    guilty = [end.past for end in found if end.is_in and end.ours not in (SUCCESS, IGNORED)]
    if not guilty:
        return None
    return lines[min((place for place in guilty if place is not None), default=-1)]


def _steps(lines: Sequence[Line], at: _At, answers: Callable[[Line], set[str]]) -> list[_At]:
    line = lines[at.place]
    outside = at.outside[: line.depth]
    while len(outside) < line.depth:
        outside = (*outside, (at.impression, at.fine))
    at = at._replace(outside=outside)
    if line.control == "substack":
        return [at._replace(place=at.place + 1)]
    actions = actions_of(line.control)
    steps = []
    for code in sorted(answers(line)):
        now = at
        if line.is_ours:
            now = at._replace(ours=code, past=None, open_minded=at.open_minded or at.impression != _NEGATIVE)
        steps.append(_after(lines, now, code, actions.get(code, actions["default"])))
    return steps


def _after(lines: Sequence[Line], at: _At, code: str, action: str) -> _At:
    """Give the state after one answer."""
    impression, fine, target = at.impression, at.fine, at.place + 1
    if action in ("ok", "done"):
        if impression == _UNDECIDED or (impression == _POSITIVE and fine):
            fine = code == SUCCESS
            impression = _POSITIVE if fine else impression
        if impression == _POSITIVE and action == "done":
            target = _end_of_level(lines, at.place)
    elif action in ("bad", "die"):
        impression, fine = _NEGATIVE, False
        if action == "die":
            target = _end_of_level(lines, at.place)
    elif action == "reset":
        impression, fine = at.outside[-1] if at.outside else (_UNDECIDED, True)
    elif action.isdecimal():
        target, left = _jump(lines, at.place, int(action))
        if left:
            impression, fine = _NEGATIVE, False
    hopped = not at.ours and any(line.is_ours for line in lines[at.place + 1 : target])
    passed = hopped or (action == "reset" and bool(at.ours))
    return at._replace(place=target, impression=impression, fine=fine, past=at.place if passed else at.past)


def _end_of_level(lines: Sequence[Line], index: int) -> int:
    """Give where a stack goes on that is ended here: a substack's end is not that of the whole."""
    target = index + 1
    while target < len(lines) and lines[target].depth >= lines[index].depth:
        target += 1
    return target


def _jump(lines: Sequence[Line], index: int, hops: int) -> tuple[int, int]:
    """Give the line behind so many others, a substack counted as one, and how many were wanting."""
    depth, at = lines[index].depth, index + 1
    while hops and at < len(lines) and lines[at].depth >= depth:
        at += 1
        while at < len(lines) and lines[at].depth > depth:
            at += 1
        hops -= 1
    return at, hops


def asks_for_password(lines: Sequence[Line]) -> bool:
    """Tell whether a stack has a module for a password."""
    return any(line.name in PASSWORD_MODULES for line in lines)
