"""Check the store and the users: names from a directory service, homes created late, homes on the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pam_softtoken import platform_facts
from pam_softtoken.account import places
from pam_softtoken.admin.common import logins
from pam_softtoken.admin.common.finding import ERROR, NOTE, WARNING, Finding, Report, named, shown
from pam_softtoken.admin.services.option_check import our_lines, set_where, settings_of
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.config import Config
from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import home_making
from pam_softtoken.pam.known_modules import HOME_OPENERS
from pam_softtoken.pam.stack import Line, Stack

MOUNTS = "/proc/self/mountinfo"
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "autofs")
_MOVE = "softtoken-admin move --all --to system"


class Mount(NamedTuple):
    """The mount point of a file system, and its type."""

    path: str
    kind: str


def check(services: Services) -> Report:
    """Check each store that our lines name."""
    directory_services = logins.directory_services()
    far_homes = _far_homes()
    findings: list[Finding] = []
    for stack in services.ours:
        for line in our_lines(stack):
            settings = settings_of(line)
            if settings is None or line.kind != "auth":
                continue
            if settings.place.startswith("%h"):
                findings += [
                    *_late_homes(stack, settings),
                    *_closed_homes(stack, settings),
                    *_homes_elsewhere(line, far_homes),
                ]
            findings += _named_places(line, settings, directory_services)
    unique = {(finding.place, finding.what): finding for finding in findings}
    return Report(tuple(unique.values()), (logins.NSSWITCH, "where the homes are mounted"))


def _named_places(line: Line, settings: Config, directory_services: list[str]) -> Iterator[Finding]:
    """Report a store path that contains user names, if a directory service supplies them."""
    if "%u" not in settings.place.replace("%%", "") or not directory_services:
        return
    where = set_where(line, "store")
    what = (
        f"users come from {named(directory_services)}, and a user who is renamed there is refused "
        "until softtoken-admin rebind, and may leave their place to somebody else: store= with %U uses the uid"
    )
    file = where.place.rpartition(":")[0] or where.place
    yield Finding(WARNING, where.place, where.line, what, platform_facts.editor(file))


def _late_homes(stack: Stack, settings: Config) -> Iterator[Finding]:
    """Report a home directory that is created only after the code was asked for."""
    line = home_making.line_of(stack)
    if line is None:
        return
    effect = f"{stack.service} refuses users who have none yet, as their tokens would be there"
    if settings.nullok or settings.required_from:
        try:
            home_making.require_in_each_session(stack)
        except ConfigError as error:
            effect += f", and {error.problems[0]}"
        else:
            effect = "nobody can enrol users who have none yet, and their first login needs no code"
    yield Finding(
        WARNING,
        str(line.place),
        shown(line),
        f"{line.name} makes a home directory after the code was asked for: {effect}; "
        f"store={places.SYSTEM_STORE} keeps tokens elsewhere",
        _MOVE,
    )


def _closed_homes(stack: Stack, settings: Config) -> Iterator[Finding]:
    """Report home directories that are locked when the code is asked for."""
    option = "nullok" if settings.nullok else "required_from" if settings.required_from else ""
    for line in stack.lines:
        if line.kind == "session" and line.name in HOME_OPENERS:
            what = f"{line.name} opens home directories after the code was asked for; until then no tokens are read, "
            what += f"and {option} lets their users in without a code" if option else "and their users are refused"
            yield Finding(ERROR if option else WARNING, str(line.place), shown(line), what, _MOVE)


def _homes_elsewhere(line: Line, far_homes: list[Mount]) -> Iterator[Finding]:
    for mount in far_homes:
        what = (
            f"home directories are on {mount.kind}: where the module cannot read them, every code is refused, "
            "and others who can write there can change tokens"
        )
        severity = NOTE if mount.kind == "autofs" else WARNING
        yield Finding(severity, mount.path, shown(line), what, _MOVE)


def _far_homes() -> list[Mount]:
    """List the network file systems with homes of users who can log in."""
    mounts = _mounts()
    homes = dict.fromkeys(entry.pw_dir for entry in logins.who_can_log_in())
    found = dict.fromkeys(_mount_of(home, mounts) for home in homes)
    return [mount for mount in found if mount is not None and mount.kind in NETWORK_FILE_SYSTEMS]


def _mounts() -> list[Mount]:
    try:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape", newline="\n") as table:
            rows = [line.split(" ") for line in table]
    except OSError:
        return []
    return [Mount(_unescaped(row[4]), row[row.index("-") + 1]) for row in rows if "-" in row]


def _unescaped(path: str) -> str:
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _mount_of(path: str, mounts: list[Mount]) -> Mount | None:
    """Return the mount of a path: the last of those with the longest mount point, because it hides the others."""
    best: Mount | None = None
    for mount in mounts:
        is_above = f"{path.rstrip('/')}/".startswith(f"{mount.path.rstrip('/')}/")
        if is_above and (best is None or len(mount.path) >= len(best.path)):
            best = mount
    return best
