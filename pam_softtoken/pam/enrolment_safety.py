"""Check whether users may enrol in a login of a service: could they reach enrolment, or bypass it, without a first
factor? Loaded only when that question arises. In doubt the answer is "no": nothing unknown is a reason to let users
enrol.
"""

from __future__ import annotations

import os
import stat

from pam_softtoken.account import safe_open
from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import known_modules, paths, service_file
from pam_softtoken.pam.control import WORDS
from pam_softtoken.pam.dialect import IN_PIECES, WHOLE_LINES
from pam_softtoken.pam.stack import Line, Stack

_DIALECTS = (IN_PIECES, WHOLE_LINES)
"""All of these must read the service alike. Other libpams look in more places for what Debian's does not find. That
case is refused here. Other libpams also deny every user if they do not know `@include`.
"""
_REFUSING = ("required", "requisite")
_ENDS_WITH_YES = (paths.SUCCESS, paths.RENEWAL)


def require_that_enrolment_is_safe(service: str, *, factor_seen_by_host: bool) -> None:
    """Check that a service keeps out users that our `auth` line ignores, until they have enrolled.

    Args:
        service: its name, `PAM_SERVICE`.
        factor_seen_by_host: the application itself has checked a first factor, so modules need not.

    Raises:
        ConfigError: it does not, or this cannot be known.
    """
    stack = read(service)
    for kind in ("auth", "account"):
        ours = [line for line in stack.of(kind) if line.is_ours]
        if not ours:
            raise ConfigError((f"enrol: {service} has no {kind} line with this module",))
        if any(line.control not in _REFUSING for line in ours):
            raise ConfigError((f"enrol: our {kind} line of {service} is neither required nor requisite",))
    if len(stack.ours) > 1:  # a second line would forget the user that the first one marked
        raise ConfigError((f"enrol: {service} has more than one auth line with this module",))
    if not factor_seen_by_host:
        _require_first_factor(stack)
    _require_account_line(stack)


def read(service: str) -> Stack:
    """Read a service from files that only root can write.

    Raises:
        ConfigError: versions of libpam read it differently, or something in it cannot be read.
    """
    if not service or service.startswith("."):
        raise ConfigError((f'enrol: "{service}" is not the name of a service',))
    first, *others = (service_file.read(service, _text_of, dialect) for dialect in _DIALECTS)
    if not first.file:
        raise ConfigError((f"enrol: there is no {service_file.DIRECTORY}/{service} in which to look for our lines",))
    for stack in (first, *others):
        if stack.problems:
            raise ConfigError((f"enrol: {stack.problems[0]}",))
        if [line.meaning for line in stack.lines] != [line.meaning for line in first.lines]:
            raise ConfigError((f"enrol: some versions of libpam read {service} differently",))
    return first


def _text_of(path: str) -> str | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise ConfigError((f"enrol: {path} is a link that leads nowhere",)) from None
        return None
    except OSError as error:
        raise ConfigError((f"enrol: {path}: {os.strerror(error.errno or 0)}",)) from None
    return "" if stat.S_ISDIR(status.st_mode) else safe_open.read_conf(path, True)


def _require_first_factor(stack: Stack) -> None:
    """Check that no user gets past without a password module's consent, even if all later lines say yes."""
    lines = stack.of("auth")
    place = next(number for number, line in enumerate(lines) if line.is_ours)
    if not paths.asks_for_password(lines[:place]):
        raise ConfigError((f"enrol: no auth line of {stack.service} before ours checks a password",))
    if any(end.is_in and end.ours for end in paths.ends((*lines, _yes(lines)), _without_password)):
        raise ConfigError(
            (f"enrol: no auth line of {stack.service} before ours keeps out whom the first factor refuses",)
        )


def _yes(lines: tuple[Line, ...]) -> Line:
    """Return a line that says yes, to follow some others. So no refusal depends on what stands after our line today."""
    last = lines[-1]
    actions = WORDS["required"]
    return Line(last.place, last.kind, "required", actions=actions, module=known_modules.PERMIT)


def _without_password(line: Line) -> set[str]:
    """Return the possible answers of a module to a new user who does not know the password."""
    if line.is_ours:
        return {paths.IGNORED}
    answers = paths.anything(line)
    if line.name in known_modules.PASSWORD:
        answers -= {paths.SUCCESS, paths.RENEWAL}
        if not known_modules.can_ignore(line.name, line.arguments):
            answers -= {paths.IGNORED}
    return answers


def _require_account_line(stack: Stack) -> None:
    """Check that no user gets in that our account line refuses, not even by having to choose a new password."""
    lines = stack.of("account")
    found = paths.ends((*lines, _yes(lines)), lambda line: {paths.DENIED} if line.is_ours else paths.anything(line))
    for end in found:
        if end.code in _ENDS_WITH_YES:
            guilty = lines[end.past].name if end.past is not None else "another module"
            raise ConfigError(
                (f"enrol: {guilty} could pass by our account line of {stack.service}; put ours before it",)
            )
