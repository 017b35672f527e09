"""Check the socket of programs that do not run as root, and for what it would refuse them. It only reads."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator

from pam_softtoken import config, option_table
from pam_softtoken.account import location, places, safe_open, user_lookup
from pam_softtoken.admin.common import logins
from pam_softtoken.admin.common.finding import ERROR, WARNING, Finding, Report, shown
from pam_softtoken.admin.services import option_check, unit_files
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import service_file
from pam_softtoken.pam.stack import Stack
from pam_softtoken.program_errors import AdministrationFailed

UNIT = "softtoken-login.socket"
TURN_ON = f"systemctl enable --now {UNIT}"
SERVICE = "softtoken-login.service"
ASK_AS_ROOT = ("cockpit",)
"""Services whose user does not matter, because a helper asks PAM as root. Cockpit has the set-uid cockpit-session."""
_SYSTEMD = "/run/systemd/system"
_DROP_IN = f"/etc/systemd/system/{SERVICE}.d/store.conf"


def check(services: Services) -> Report:
    """Check the socket, the users that may ask for others, and the lines of screen lockers."""
    findings = [*_not_a_socket(), *_unknown_peers()]
    if is_on():
        findings += _closed_places(services)
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


def owner_of(store: str) -> int:
    """Return the owner of the directory that a store's users share; 0 for a store in the homes or a missing one."""
    above, _ = location.split(store)
    try:
        return os.stat(above).st_uid if above.startswith("/") else 0
    except OSError:
        return 0


def require_none_closed(stacks: Iterable[Stack], text_of: unit_files.TextOf = unit_files.text_of_file) -> None:
    """Check that each service whose unit runs it as an ordinary user gets its codes checked after a change.

    Args:
        stacks: all services that the change touches, in their new form.
        text_of: reads a file.

    Raises:
        AdministrationFailed: a service could check no code.
    """
    for stack in stacks:
        for unit in unit_files.units_of(stack.service):
            user = unit_files.user_of(unit, text_of) or ""
            uid = int(user) if user.isdecimal() else user_lookup.uid_of_name(user)
            if user and uid and stack.service not in ASK_AS_ROOT and not serves(uid) and _is_closed_to(uid, stack):
                raise AdministrationFailed(
                    f"{stack.service} runs as {user} ({unit}), which cannot read tokens of others, so that it would "
                    "refuse every code; nothing was changed",
                    hint=f"write relay_for = {user} into {option_table.DEFAULT_CONF}, and {TURN_ON}; "
                    "--force goes on anyway",
                )


def _is_closed_to(uid: int, stack: Stack) -> bool:
    stores = [settings.place for settings in map(option_check.settings_of, stack.ours) if settings is not None]
    return any(owner_of(store) != uid for store in stores)


def _peers() -> dict[str, int | None]:
    try:
        names = config.load([], safe_open.read_conf).relay_for.split()
    except ConfigError:
        return {}
    return {name: user_lookup.uid_of_name(name) for name in names}


def _closed_places(services: Services) -> Iterator[Finding]:
    """Yield findings about places of tokens into which the unit may not write."""
    words = unit_files.words_of(SERVICE, "ReadWritePaths", services.reading.text)
    try:
        conf = config.load([], safe_open.read_conf)
    except ConfigError:
        return
    if words is None or conf.fleet:
        return
    above, _ = location.split(conf.store)
    places_of_tokens = [above]
    if above == "%h":
        homes = {os.path.dirname(user_lookup.place_of(each.pw_dir)) for each in logins.who_can_log_in()}
        places_of_tokens = sorted(homes - {"/"})
    open_places = [word.lstrip("-+") for word in words]
    for place in places_of_tokens:
        if not any(f"{place}/".startswith(f"{each.rstrip('/')}/") for each in open_places):
            what = (
                f"{SERVICE} may not write here, so that programs without root refuse HOTP and recovery codes, and "
                f"count wrong ones only until a restart; add the directory to its ReadWritePaths"
            )
            yield Finding(WARNING, place, "", what, _way_to_open(place))


def _way_to_open(place: str) -> str:
    line = shlex.quote("[Service]\\nReadWritePaths=-%s\\n")
    return (
        f"mkdir -p {os.path.dirname(_DROP_IN)} && printf {line} {shlex.quote(place)} >>{_DROP_IN} && "
        f"systemctl daemon-reload && systemctl try-restart {SERVICE}"
    )


def _unknown_peers() -> Iterator[Finding]:
    for name, uid in _peers().items():
        if uid is None:
            what = f"relay_for names {name}, and this host knows no such user"
            yield Finding(WARNING, option_table.DEFAULT_CONF, "", what, f"getent passwd {name}")


def _not_a_socket() -> Iterator[Finding]:
    if os.path.lexists(places.RELAY_SOCKET) and not is_on():
        what = "is no socket of root's: programs that do not run as root refuse everybody"
        yield Finding(ERROR, places.RELAY_SOCKET, "", what, f"rm {places.RELAY_SOCKET} && systemctl restart {UNIT}")
