"""Check whether users may enrol in a login of a service: could they reach enrolment, or bypass it, without a first
factor? Loaded only when that question arises. In doubt the answer is "no": nothing unknown is a reason to let users
enrol.
"""

from __future__ import annotations

from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import common_reading, known_modules, paths
from pam_softtoken.pam.stack import Line, Stack

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
        ConfigError: see `common_reading`.
    """
    try:
        return common_reading.read(service)
    except ConfigError as error:
        raise ConfigError((f"enrol: {error.problems[0]}",)) from None


def _require_first_factor(stack: Stack) -> None:
    """Check that no user gets past without a password module's consent, even if all later lines say yes."""
    lines = stack.of("auth")
    place = next(number for number, line in enumerate(lines) if line.is_ours)
    if not paths.asks_for_password(lines[:place]):
        raise ConfigError((f"enrol: no auth line of {stack.service} before ours checks a password",))
    if any(end.is_in and end.ours for end in paths.ends(paths.with_yes(lines), _without_password)):
        raise ConfigError(
            (f"enrol: no auth line of {stack.service} before ours keeps out whom the first factor refuses",)
        )


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
    found = paths.ends(paths.with_yes(lines), lambda line: {paths.DENIED} if line.is_ours else paths.anything(line))
    for end in found:
        if end.code in _ENDS_WITH_YES:
            guilty = lines[end.past].name if end.past is not None else "another module"
            raise ConfigError(
                (f"enrol: {guilty} could pass by our account line of {stack.service}; put ours before it",)
            )
