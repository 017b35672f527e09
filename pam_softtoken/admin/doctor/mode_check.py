"""Check the files that a login runs and trusts: owners, other users' write access, and compiled modules."""

from __future__ import annotations

import importlib.util
import os
import shlex
import stat
from collections.abc import Iterable, Iterator

from pam_softtoken import option_table, platform_facts
from pam_softtoken.account import entries, places
from pam_softtoken.admin.common import person
from pam_softtoken.admin.common.finding import ERROR, WARNING, Finding, Report, named
from pam_softtoken.admin.services.option_check import our_lines, settings_of
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.pam import installed_libpam, known_modules

PYTHON_MODULE = "pam_module.py"
MOST_ENTRIES = 20000
_GROUP_OR_OTHERS_WRITE, _GROUP_OR_OTHERS = 0o022, 0o077


def check(services: Services) -> Report:
    """Check all files that our lines name, and root's records for them."""
    findings: list[Finding] = []
    for path in dict.fromkeys(
        [platform_facts.INTERPRETER, option_table.DEFAULT_CONF, *modules(services), *backends(services)]
    ):
        findings += not_roots_alone(path)
        if path in backends(services) and not os.path.isfile(path):
            what = "the backend is not there, so that every login is refused"
            findings.append(Finding(ERROR, path, "", what, platform_facts.reinstall()))
    for package in packages(services):
        findings += [*writable_below(package), *not_compiled(package)]
    roots = (
        places.DATA,
        places.ENROLLED,
        places.NAMES,
        places.REVOKED,
        places.SIGNERS,
        places.RUN,
    )
    for directory in roots:
        findings += not_roots_alone(directory)
    for template, directory in _templates_of_root(services).items():
        findings += [*not_roots_alone(directory), *_open_stores(template)]
    unique = {(finding.place, finding.what): finding for finding in findings}
    looked_at = ("owners and modes of module, backend, package, configuration and state", "compiled modules")
    return Report(tuple(unique.values()), looked_at)


def modules(services: Services) -> list[str]:
    """Return the files of our module that the services name."""
    names = {line.module for stack in services.ours for line in our_lines(stack)}
    paths = [installed_libpam.module_file(name) for name in sorted(names)]
    return [path for path in paths if path]


def backends(services: Services) -> list[str]:
    """Return the backends that our lines start; under pam_python that is the module itself."""
    found = []
    for stack in services.ours:
        for line in our_lines(stack):
            settings = settings_of(line)
            if line.name == known_modules.PYTHON:
                found.append(line.arguments[0])
            elif settings is not None and settings.backend:
                found.append(settings.backend)
            elif not any(word.startswith("backend=") for word in line.arguments):
                found.append(platform_facts.BACKEND)
    return list(dict.fromkeys(found))


def packages(services: Services) -> list[str]:
    """Return the packages beside the backends."""
    found = []
    for backend in backends(services):
        path = os.path.realpath(backend)
        above = os.path.dirname(os.path.dirname(path))
        package = os.path.dirname(path) if path.endswith(PYTHON_MODULE) else f"{above}/pam_softtoken"
        if os.path.isdir(package):
            found.append(package)
    return list(dict.fromkeys(found))


def stores_of_root(services: Services) -> list[str]:
    """Return the directories in which root keeps the tokens of all users."""
    return list(dict.fromkeys(_templates_of_root(services).values()))


def _templates_of_root(services: Services) -> dict[str, str]:
    """Return the stores outside the homes that our lines name, each with the directory that all users share."""
    found = {}
    for stack in services.ours:
        for line in our_lines(stack):
            settings = settings_of(line)
            for store in (settings.place, settings.fleet_alone) if settings is not None else ():
                if store.startswith("/"):
                    found[store] = store.partition("%")[0].rpartition("/")[0] or "/"
    return {template: path for template, path in found.items() if os.path.isdir(path)}


def not_roots_alone(path: str) -> Iterator[Finding]:
    """Report a path, or a directory above it, that a user other than root could write."""
    walk = os.path.realpath(path)
    while True:
        status = entries.status_of(walk)
        if status is not None:
            yield from _not_roots(walk, status)
        if walk == "/":
            return
        walk = os.path.dirname(walk)


def _not_roots(path: str, status: os.stat_result) -> Iterator[Finding]:
    file = shlex.quote(path)
    if status.st_uid != 0:
        what = f"it belongs to uid {status.st_uid}, who could change how everybody logs in"
        yield Finding(ERROR, path, "", what, f"chown root: {file}")
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & _GROUP_OR_OTHERS_WRITE and not sticky:
        what = f"users other than root can write it (mode {stat.S_IMODE(status.st_mode):04o})"
        yield Finding(ERROR, path, "", what, f"chmod go-w {file}")


def _below(directory: str) -> Iterator[str]:
    """Yield the entries of a directory and of those below it, up to a limit that no honest package reaches."""
    count = 0
    for path, directories, names in os.walk(directory):
        for name in (*directories, *names):
            count += 1
            if count > MOST_ENTRIES:
                return
            yield os.path.join(path, name)


def writable_below(package: str) -> Iterator[Finding]:
    """Report files in a package that other users could write; many files make one finding."""
    guilty: list[str] = []
    for path in _below(package):
        status = entries.status_of(path)
        if status is not None and not stat.S_ISLNK(status.st_mode) and any(True for _ in _not_roots(path, status)):
            guilty.append(path)
    if guilty:
        names = named(os.path.relpath(path, package) for path in guilty)
        what = f"users other than root own or can write parts of what root runs at each login: {names}"
        where = shlex.quote(package)
        yield Finding(ERROR, package, "", what, f"chown -R root: {where} && chmod -R go-w {where}")


def not_compiled(package: str) -> Iterator[Finding]:
    """Report modules that each login must compile again. Source: PEP 552, the first 16 bytes of a compiled module."""
    stale = [os.path.relpath(path, package) for path in _below(package) if path.endswith(".py") and _is_stale(path)]
    if stale:
        what = f"each login compiles some modules again, and the user waits for it: {named(stale)}"
        yield Finding(
            WARNING, package, "", what, f"{platform_facts.INTERPRETER} -m compileall -q {shlex.quote(package)}"
        )


def _is_stale(source: str) -> bool:
    try:
        with open(importlib.util.cache_from_source(source), "rb") as compiled:
            head = compiled.read(16)
        status = os.stat(source)
    except (OSError, NotImplementedError):
        return os.path.exists(source)  # otherwise it was removed since it was listed
    if len(head) < 16 or head[:4] != importlib.util.MAGIC_NUMBER:
        return True
    flags, seconds, size = (int.from_bytes(head[place : place + 4], "little") for place in (4, 8, 12))
    changed = (seconds, size) != (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
    return flags == 0 and changed


def _open_stores(template: str) -> Iterator[Finding]:
    """Report users' directories in a store of root's that are not root's alone."""
    ours = {places.ENROLLED, places.NAMES, places.REVOKED, places.CHANGES, places.SIGNERS}
    for path in entries.stores_in(template)[:MOST_ENTRIES]:
        user = entries.user_of(path, template)
        status = entries.status_of(path)
        if user is None or path in ours or status is None or not stat.S_ISDIR(status.st_mode):
            continue
        if status.st_uid != 0 or status.st_mode & _GROUP_OR_OTHERS:
            what = "it is a user's store, and somebody other than root owns it or can look into it"
            yield Finding(ERROR, path, "", what, _mend_of_store(path, status, user, template))


def _mend_of_store(path: str, status: os.stat_result, user: str, template: str) -> str:
    """Return the command that makes a user's store root's alone. It hands no file of anybody to root unread."""
    if not entries.names_in(path):
        return f"rmdir {shlex.quote(path)}"
    if status.st_uid == 0 and not status.st_mode & _GROUP_OR_OTHERS_WRITE:
        return f"chmod go= {shlex.quote(path)}"
    account = person.account_if_known(int(user) if user.isdecimal() else user)
    if account is None:
        return "softtoken-admin status"
    return shlex.join(["softtoken-admin", "mend", account.name, "--store", template])


def places_of_state(services: Services, homes: Iterable[str]) -> list[str]:
    """Return the directories in which users' state is written."""
    at_home = any(
        settings is not None and settings.place.startswith("%h")
        for stack in services.ours
        for line in our_lines(stack)
        for settings in (settings_of(line),)
    )
    return [*stores_of_root(services), *(homes if at_home else ())]
