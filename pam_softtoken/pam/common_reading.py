"""Read a PAM service during a login, which cannot know the libpam of its application. So all versions must read it
alike, from files that only root can write. Loaded only when a decision depends on it.
"""

from __future__ import annotations

import os
import stat

from pam_softtoken.account import safe_open
from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import service_file
from pam_softtoken.pam.dialect import IN_PIECES, WHOLE_LINES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.pam.stack import Stack

_DIALECTS = (IN_PIECES, WHOLE_LINES)
"""All of these must read the service alike. Other libpams look in more places for what Debian's does not find. That
case is refused here. Other libpams also deny every user if they do not know `@include`.
"""


def read(service: str) -> Stack:
    """Read a service from files that only root can write.

    Args:
        service: its name, `PAM_SERVICE`.

    Raises:
        ConfigError: versions of libpam read it differently, or something in it cannot be read.
    """
    if not service or service.startswith("."):
        raise ConfigError((f'"{service}" is not the name of a service',))
    first, *others = (service_file.read(service, _text_of, dialect) for dialect in _DIALECTS)
    if not first.file:
        raise ConfigError((f"there is no {service_file.DIRECTORY}/{service} in which to look for our lines",))
    for stack in (first, *others):
        if stack.problems:
            raise ConfigError((str(stack.problems[0]),))
        if [line.meaning for line in stack.lines] != [line.meaning for line in first.lines]:
            raise ConfigError((f"some versions of libpam read {service} differently",))
    return first


def _text_of(path: str) -> str | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise ConfigError((f"{path} is a link that leads nowhere",)) from None
        return None
    except OSError as error:
        raise ConfigError((f"{path}: {os.strerror(error.errno or 0)}",)) from None
    return "" if stat.S_ISDIR(status.st_mode) else safe_open.read_conf(path, True)
