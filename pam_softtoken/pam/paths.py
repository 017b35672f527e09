"""Follow all paths through a PAM stack, as libpam takes them, to see whether one bypasses our module. Pure.

Source: what `_pam_dispatch_aux` of libpam 1.5.2 and 1.7.0 does with the return codes.
"""

from __future__ import annotations

from pam_softtoken.pam import known_modules
from pam_softtoken.pam.control import DEFAULT, WORDS
from pam_softtoken.pam.stack import Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Answers = Callable[[Line], set[str]]
    """Returns the codes with which the module of a line can answer."""

SUCCESS, DENIED, IGNORED = "success", "auth_err", "ignore"
RENEWAL = "new_authtok_reqd"
"""With this code at the end of the account phase, an application asks for a new password and lets the user in."""
_BROKEN = "perm_denied"
_OTHER = "any other"
"""Stands for a code that no control names, so that `default` counts."""
_UNDECIDED, _POSITIVE, _NEGATIVE = "undecided", "positive", "negative"


class End:
    """How one path through a stack ended.

    Args:
        code: PAM's return code: `success`, `new_authtok_reqd`, or empty for all others.
        ours: the last return code of our module; empty if it was not run.
        past: the line that bypassed ours, or made libpam forget its answer; None if there was none.
        open_minded: no line had said no before ours was run.
    """

    __slots__ = ("code", "open_minded", "ours", "past")

    def __init__(self, code: str, ours: str, past: int | None, *, open_minded: bool) -> None:
        self.code = code
        self.ours = ours
        self.past = past
        self.open_minded = open_minded

    @property
    def is_in(self) -> bool:
        """Whether PAM said yes at the end."""
        return self.code == SUCCESS


class _At:
    """A position on a path.

    Args:
        place: number of the next line.
        impression, status: as libpam keeps them. The status is kept only as far as it can let a user in.
        ours, past, open_minded: as in `End`.
        outside: impression and status at the entry of each surrounding substack, outermost first.
    """

    __slots__ = ("impression", "open_minded", "ours", "outside", "past", "place", "status")

    def __init__(
        self,
        place: int,
        impression: str = _UNDECIDED,
        status: str = "",
        *,
        ours: str = "",
        past: int | None = None,
        open_minded: bool = False,
        outside: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.place = place
        self.impression = impression
        self.status = status
        self.ours = ours
        self.past = past
        self.open_minded = open_minded
        self.outside = outside

    @property
    def key(self) -> tuple[object, ...]:
        """Return all fields, to recognise visited positions."""
        return self.place, self.impression, self.status, self.ours, self.past, self.open_minded, self.outside


def anything(line: Line) -> set[str]:
    """Return the possible answers of a module: every code that its line treats differently."""
    if line.is_ours:
        return {SUCCESS, IGNORED, DENIED, "service_err", "conv_err", "module_unknown"}
    if line.name == known_modules.DENY:
        return {DENIED}
    if line.name == known_modules.PERMIT:
        return {SUCCESS}
    return {SUCCESS, DENIED, IGNORED, RENEWAL, _OTHER, *line.actions} - {DEFAULT}


def nobody_is_root(line: Line) -> set[str]:
    """Return the possible answers to a user who is not root at the start."""
    return {DENIED, IGNORED} if line.name in known_modules.ROOT_ONLY else anything(line)


def no_first_factor(line: Line) -> set[str]:
    """Return the possible answers to a user who proves nothing but the code."""
    return anything(line) if line.is_ours or line.name in known_modules.NEUTRAL else {DENIED}


def ends(lines: Sequence[Line], answers: Answers = anything) -> list[End]:
    """Return the ends of all paths through the lines of one type.

    Args:
        lines: in order, with the lines of substacks after their heads.
        answers: returns the possible answers of a line's module.
    """
    found: dict[tuple[object, ...], End] = {}
    waiting = [_At(0)]
    seen = {waiting[0].key}
    while waiting:
        at = waiting.pop()
        if at.place >= len(lines):
            code = "" if at.status == SUCCESS and at.impression != _POSITIVE else at.status
            key = (code, at.ours, at.past, at.open_minded)
            found[key] = End(code, at.ours, at.past, open_minded=at.open_minded)
            continue
        for following in _steps(lines, at, answers):
            if following.key not in seen:
                seen.add(following.key)
                waiting.append(following)
    return list(found.values())


def bypass(lines: Sequence[Line], *, root_is_asked: bool = False) -> Line | None:
    """Return the line that lets a login bypass this module.

    Args:
        lines: of the type `auth`.
        root_is_asked: a path that `pam_rootok` opens counts too. Otherwise it counts as intended.

    Returns:
        The line, or the last line if no single line is at fault. None if every successful path runs our module.
    """
    found = ends(lines, anything if root_is_asked else nobody_is_root)
    guilty = [end.past for end in found if end.is_in and end.ours not in (SUCCESS, IGNORED)]
    if not guilty:
        return None
    return lines[min((place for place in guilty if place is not None), default=-1)]


def with_yes(lines: Sequence[Line]) -> list[Line]:
    """Return lines with one more that says yes. So no refusal depends on what stands after them today."""
    last = lines[-1]
    return [*lines, Line(last.place, last.kind, "required", actions=WORDS["required"], module=known_modules.PERMIT)]


def _steps(lines: Sequence[Line], at: _At, answers: Answers) -> list[_At]:
    line = lines[at.place]
    outside = at.outside[: line.depth]
    while len(outside) < line.depth:
        outside = (*outside, (at.impression, at.status))
    if line.is_substack:
        step = _At(
            at.place + 1, at.impression, at.status, ours=at.ours, past=at.past, open_minded=at.open_minded,
            outside=outside,
        )  # fmt: skip
        return [step]
    return [
        _after(lines, at, outside, code, line.actions.get(code, line.actions[DEFAULT]))
        for code in sorted({_BROKEN} if line.is_broken else answers(line))
    ]


def _after(lines: Sequence[Line], at: _At, outside: tuple[tuple[str, str], ...], code: str, action: str) -> _At:
    """Return the state after one answer."""
    line = lines[at.place]
    ours, past, open_minded = at.ours, at.past, at.open_minded
    if line.is_ours:
        ours, past, open_minded = code, None, open_minded or at.impression != _NEGATIVE
    impression, status, target = at.impression, at.status, at.place + 1
    if action in ("ok", "done"):
        if impression == _UNDECIDED or (impression == _POSITIVE and status == SUCCESS):
            impression, status = _POSITIVE, _status(code)
        if impression == _POSITIVE and action == "done":
            target = _end_of_level(lines, at.place)
    elif action in ("bad", "die"):
        if impression != _NEGATIVE:
            impression, status = _NEGATIVE, _status(code)  # PAM still returns `new_authtok_reqd`
        if action == "die":
            target = _end_of_level(lines, at.place)
    elif action == "reset":
        impression, status = outside[-1] if outside else (_UNDECIDED, "")
    elif action.isdecimal():
        target, left = jump(lines, at.place, int(action))
        if left:
            impression, status = _NEGATIVE, ""
    hopped = not ours and any(each.is_ours for each in lines[at.place + 1 : target])
    if hopped or (action == "reset" and ours):
        past = at.place
    return _At(target, impression, status, ours=ours, past=past, open_minded=open_minded, outside=outside)


def _status(code: str) -> str:
    return code if code in (SUCCESS, RENEWAL) else ""


def _end_of_level(lines: Sequence[Line], index: int) -> int:
    """Return where a stack goes on if it ends here. The end of a substack is not the end of the whole."""
    target = index + 1
    while target < len(lines) and lines[target].depth >= lines[index].depth:
        target += 1
    return target


def jump(lines: Sequence[Line], index: int, hops: int) -> tuple[int, int]:
    """Return the number of the line after `hops` others, and how many were missing. A substack counts as one."""
    depth, at = lines[index].depth, index + 1
    while hops and at < len(lines) and lines[at].depth >= depth:
        at += 1
        while at < len(lines) and lines[at].depth > depth:
            at += 1
        hops -= 1
    return at, hops


def asks_for_password(lines: Sequence[Line]) -> bool:
    """Check whether a stack has a password module."""
    return any(line.name in known_modules.PASSWORD for line in lines)
