"""Check the socket of programs that do not run as root, and for what it would refuse them. It only reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from pam_softtoken import config
from pam_softtoken.account import places, safe_open, user_lookup
from pam_softtoken.admin.common.finding import ERROR, WARNING, Finding, Report, shown
from pam_softtoken.admin.services import option_check
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import service_file
from pam_softtoken.pam.stack import Stack

UNIT = "softtoken-login.socket"
TURN_ON = f"systemctl enable --now {UNIT}"
_SYSTEMD = "/run/systemd/system"


def check(services: Services) -> Report:
    """Check the socket, the users that may ask for others, and the lines of screen lockers."""
    findings = [*_not_a_socket(), *_unknown_peers()]
    if is_on():
        for stack in services.ours:
            if stack.service in service_file.LOCKERS:
                findings += refused_options(stack)
    return Report(tuple(findings), (places.RELAY_SOCKET,))


def is_on() -> bool:
    """Check whether root listens at the socket, as far as a look at it shows."""
    try:
        status = os.stat(places.RELAY_SOCKET)
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == 0


def can_be_turned_on() -> bool:
    """Check whether systemd runs, which listens at the socket."""
    return os.path.isdir(_SYSTEMD)


def serves(uid: int) -> bool:
    """Check whether services of a user may ask for the codes of others."""
    return is_on() and uid in _peers().values()


def refused_options(stack: Stack) -> Iterator[Finding]:
    """Yield findings about our lines of a service without root that say otherwise than the host's file."""
    for line in stack.ours:
        arguments = option_check.arguments_of(line)
        if option_check.settings_of(line) is None:
            continue  # `option_check` reports it
        try:
            config.load(arguments, safe_open.read_conf, relayed=True)
        except ConfigError as error:
            for problem in error.problems:
                what = f"{stack.service} does not run as root, so that {UNIT} refuses everybody there: {problem}"
                mend = option_check.set_where(line, problem.partition(":")[0]).drop
                yield Finding(ERROR, str(line.place), shown(line), what, mend)


def _peers() -> dict[str, int | None]:
    try:
        names = config.load([], safe_open.read_conf).relay_for.split()
    except ConfigError:
        return {}
    return {name: user_lookup.uid_of_name(name) for name in names}


def _unknown_peers() -> Iterator[Finding]:
    for name, uid in _peers().items():
        if uid is None:
            what = f"relay_for names {name}, and this host knows no such user"
            yield Finding(WARNING, config.DEFAULT_CONF, "", what, f"getent passwd {name}")


def _not_a_socket() -> Iterator[Finding]:
    if os.path.lexists(places.RELAY_SOCKET) and not is_on():
        what = "is no socket of root's: programs that do not run as root refuse everybody"
        yield Finding(ERROR, places.RELAY_SOCKET, "", what, f"rm {places.RELAY_SOCKET} && systemctl restart {UNIT}")
