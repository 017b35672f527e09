"""Check whether the sessions of a service make home directories. Pure. A login loads it only for a user whose home is
missing.
"""

from __future__ import annotations

from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import known_modules, paths
from pam_softtoken.pam.stack import Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.pam.stack import Stack

_STOP = {"default": "die"}


def line_of(stack: Stack) -> Line | None:
    """Return the first session line that makes home directories; None if there is none."""
    return next((line for line in stack.of("session") if _makes_homes(line)), None)


def require_in_each_session(stack: Stack) -> None:
    """Check that each session that opens has made the home directory.

    Raises:
        ConfigError: no line does, or a session can open without it.
    """
    lines = stack.of("session")
    if line_of(stack) is None:
        raise ConfigError((f"no session line of {stack.service} makes home directories",))
    opener = next((line for line in stack.lines if line.name in known_modules.HOME_MANAGERS), None)
    if opener is not None:
        raise ConfigError((f"{opener.name} opens home directories, so one that is missing may be locked",))
    # Each path that gets to such a line stops there. What is still let in has gone past all of them.
    stopped = [_stopping(line) if _makes_homes(line) else line for line in lines]
    if any(end.is_in for end in paths.ends(paths.with_yes(stopped))):
        raise ConfigError((f"sessions of {stack.service} can pass by the line that makes home directories",))


def _makes_homes(line: Line) -> bool:
    return line.name in known_modules.HOME_MAKERS and not line.is_substack and not line.is_broken


def _stopping(line: Line) -> Line:
    return Line(line.place, line.kind, line.control, actions=_STOP, module=line.module, via=line.via, depth=line.depth)
