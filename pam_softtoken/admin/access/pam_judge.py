"""Judge how a PAM service answers a user with some proofs.

Pure. It follows all paths through the stack, with every answer that a module can give. If both results are possible,
the verdict is `MAYBE`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pam_softtoken.admin.access.proofs import CODE, ENROLLED, PASSWORD, UNKNOWN, Asking, Door, Person, Proofs
from pam_softtoken.admin.sshd.match_blocks import MAYBE, NO, YES, glob
from pam_softtoken.pam import paths
from pam_softtoken.pam.known_modules import DENY, FAILLOCK, NEUTRAL, PERMIT, ROOT_ONLY, SUCCEED_IF, UNIX
from pam_softtoken.pam.known_modules import PASSWORD as PASSWORD_MODULES
from pam_softtoken.pam.paths import DENIED, IGNORED, SUCCESS
from pam_softtoken.pam.service_file import SET_UID_SERVICES
from pam_softtoken.pam.stack import Line

_UNSURE = {SUCCESS, DENIED, IGNORED, "user_unknown"}


class Judge:
    """Judge how one PAM service answers, and remember the verdicts.

    Args:
        door: the service.
    """

    def __init__(self, door: Door) -> None:
        self.door = door
        self._verdicts: dict[tuple[frozenset[str], ...], int] = {}

    def verdict(self, person: Person, proofs: Proofs, *, once: bool = False) -> int:
        """Return whether the service lets a user in.

        Args:
            person: the user.
            proofs: the proofs that the user answers with.
            once: the host answers every question with the password, as sshd's method `password` does.
        """
        answers = tuple(frozenset(answers_of(line, self.door, person, proofs, once=once)) for line in self.door.auth)
        if answers not in self._verdicts:
            known = dict(zip(self.door.auth, map(set, answers), strict=True))
            found = {end.is_in for end in paths.ends(self.door.auth, lambda line: known[line])}
            self._verdicts[answers] = YES if found == {True} else MAYBE if True in found else NO
        return self._verdicts[answers]


def answers_of(line: Line, door: Door, person: Person, proofs: Proofs, *, once: bool = False) -> set[str]:
    """Return the possible answers of a module for a user."""
    if line.is_ours:
        return _ours(door.asking.get(line), person, proofs, once=once)
    if line.name in PASSWORD_MODULES:
        return _of_password(line, person, proofs)
    if line.name == SUCCEED_IF:
        return {NO: {DENIED}, MAYBE: {SUCCESS, DENIED}, YES: {SUCCESS}}[succeeds(line.arguments, person, door.service)]
    fixed = {DENY: DENIED, PERMIT: SUCCESS}
    fixed |= dict.fromkeys(ROOT_ONLY, DENIED if door.service in SET_UID_SERVICES else SUCCESS)
    fixed[FAILLOCK] = IGNORED if "authfail" in line.arguments else SUCCESS
    if line.name in fixed:
        return {fixed[line.name]}
    return {SUCCESS, IGNORED} if line.name in NEUTRAL else set(_UNSURE)


def _of_password(line: Line, person: Person, proofs: Proofs) -> set[str]:
    if PASSWORD not in proofs or person.password == NO:
        return {DENIED}
    return {SUCCESS} if person.password == YES and line.name == UNIX else set(_UNSURE)


def _ours(asking: Asking | None, person: Person, proofs: Proofs, *, once: bool) -> set[str]:
    if asking is None:
        return {DENIED}
    enrolment = person.enrolment(asking.store)
    if asking.lets_in(enrolment):
        return {IGNORED}
    can_ask = (asking.asks and not once) or asking.from_password
    if enrolment == UNKNOWN:
        return {DENIED, *([SUCCESS] if CODE in proofs and can_ask else []), *([IGNORED] if asking.passes_never else [])}
    return {SUCCESS if enrolment == ENROLLED and CODE in proofs and can_ask else DENIED}


def succeeds(arguments: Sequence[str], person: Person, service: str) -> int:
    """Return whether the conditions of a `pam_succeed_if` line are met. Source: pam_succeed_if(8)."""
    flags = {"debug", "quiet", "quiet_fail", "quiet_success", "audit"}
    words = [word for word in arguments if word not in flags]
    if "use_uid" in words or len(words) % 3 or not words:
        return MAYBE
    triples = [words[place : place + 3] for place in range(0, len(words), 3)]
    return min(_holds(left, operator, right, person, service) for left, operator, right in triples)


def _holds(left: str, operator: str, right: str, person: Person, service: str) -> int:
    if left == "uid" and right.isdecimal():
        value = int(right)
        equal, less = person.uid == value, person.uid < value
        numbers = {"lt": less, "ge": not less, "le": less or equal, "gt": not less and not equal}
        numbers |= {"eq": equal, "ne": not equal, "=": equal, "!=": not equal}
        numbers |= {"<": numbers["lt"], ">=": numbers["ge"], "<=": numbers["le"], ">": numbers["gt"]}
        return MAYBE if operator not in numbers else YES if numbers[operator] else NO
    text = {"user": person.name, "service": service}.get(left)
    if text is None:
        return MAYBE
    listed = right.split(":")
    texts: dict[str, Callable[[], bool]] = {
        "=": lambda: text == right,
        "!=": lambda: text != right,
        "=~": lambda: glob(right, text),
        "!~": lambda: not glob(right, text),
        "in": lambda: text in listed,
        "notin": lambda: text not in listed,
        "ingroup": lambda: any(group in person.names.groups for group in listed),
        "notingroup": lambda: not any(group in person.names.groups for group in listed),
    }
    if operator not in texts or (operator.endswith("ingroup") and left != "user"):
        return MAYBE
    return YES if texts[operator]() else NO
