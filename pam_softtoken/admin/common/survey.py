"""Collect facts about many users, however slow or hostile their home directories are.

It only reads: it creates, writes, locks and hashes nothing, and opens files as the user. A disk that does not answer
hangs every process that touches it. So a child process reads, and is replaced when it is silent for some time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pwd
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pam_softtoken.account import (
    account_record,
    cure,
    enrolled_mark,
    missing_home,
    revocation,
    safe_open,
    user_lookup,
)
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.location import Location
from pam_softtoken.account.state import SHARED_BUCKETS, State
from pam_softtoken.admin.common import child, person
from pam_softtoken.admin.common.realm_reader import RealmReader
from pam_softtoken.config import Config
from pam_softtoken.enroll.token_list import Inventory, utc
from pam_softtoken.errors import (
    ConfigError,
    DamagedState,
    FleetDown,
    LookUpFailed,
    NoHome,
    NotEnrolled,
    PathError,
    UnusableFile,
)
from pam_softtoken.fleet import host
from pam_softtoken.fleet.editor import FleetEditor, command_for
from pam_softtoken.login import throttle
from pam_softtoken.login.policy import Limits
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.ui import terminal

Facts = dict[str, Any]
ENROLLED, NOT_ENROLLED, UNUSABLE = "enrolled", "not-enrolled", "unusable"
MISSING, NOT_YET = "missing", "not-yet"
"""Why there is no home directory: it was there before, or this is not known; or no session has made it yet."""
PATIENCE_S = 10.0
"""The time limit for one user's files, in seconds. A file system that answers at all needs a fraction of it."""


def facts_of(entry: pwd.struct_passwd, config: Config, *, now: int) -> Facts:
    """Return the facts about one user's files."""
    facts = _unknown(entry, "")
    try:
        account = user_lookup.account_of(entry)
        location = None if config.fleet else Location(config.store, account)
        facts["was_enrolled"] = enrolled_mark.was_accepted(account)
        before = account_record.former(account)
        was_another = before is not None and before.name not in ("", account.name)
        facts["former_name"] = before.name if before is not None and was_another else enrolled_mark.former_name(account)
        facts["former_uid"] = before.uid if before is not None else None
        if location is None:
            _look_into_realm(account, facts, now, config)
        else:
            facts["store"] = location.path
            _as_member(account, lambda: _look(location, facts, now, config))
    except NotEnrolled:
        facts["status"] = NOT_ENROLLED
        facts["elsewhere"] = _elsewhere(account, config.place)
    except PathError as error:
        facts["problem"], facts["cure"] = str(error), _cure_of(error, account.name, location)
        if isinstance(error, NoHome):
            facts["no_home"] = _no_home(error, account)
    except (LookUpFailed, ConfigError, EnrolmentFailed, FleetDown, OSError, ValueError) as error:
        facts["problem"] = str(error)
    return facts


def _cure_of(error: PathError, user: str, location: Location | None) -> str:
    if location is not None:
        return cure.of(error, location).command
    return command_for(error, user)


_readers: dict[tuple[int, str, str], RealmReader] = {}
"""By process and realm. A connection cannot be used by two processes."""


def _look_into_realm(account: safe_open.Account, facts: Facts, now: int, config: Config) -> None:
    reader = _readers.setdefault((os.getpid(), config.fleet, config.fleet_keys), RealmReader(config))
    store = reader.of(account)
    facts["store"] = store.location.path
    try:
        _take(store, facts, now, config)
    finally:
        facts["was_enrolled"] = store.is_open and store.was_enrolled()


def _no_home(error: NoHome, account: safe_open.Account) -> str:
    """Return whether a home directory may be made by the user's first session, or is missing."""
    try:
        if enrolled_mark.was_accepted(account) or revocation.read_for(account).names:
            return MISSING
        missing_home.require_never_made(error.path)
    except PathError:
        return MISSING
    return NOT_YET


def _unknown(entry: pwd.struct_passwd, problem: str) -> Facts:
    return {
        "user": entry.pw_name,
        "uid": entry.pw_uid,
        "status": UNUSABLE,
        "problem": problem,
        "cure": "",
        "store": "",
        "elsewhere": [],
        "was_enrolled": False,
        "former_name": "",
        "former_uid": None,
        "tokens": [],
        "last_used": None,
        "recovery_codes": {"total": 0, "left": 0},
        "state": "unknown",
        "pin": None,
        "waiting": [],
        "issued_code_until": None,
        "record_ahead_s": 0,
        "no_home": "",
    }


def _as_member(account: safe_open.Account, look: Callable[[], None]) -> None:
    try:
        look()
    except UnusableFile as error:
        if not error.denied:
            raise
        account.look_up_groups()  # the way to the home directory may be open to only one of them
        look()


def _elsewhere(account: safe_open.Account, looked_at: str) -> list[str]:
    """List places where a user has tokens that no login reads, because they were not moved, or not moved back."""
    found: list[str] = []
    places = [Location(template, account) for template in person.PLACES.values() if template != looked_at]
    for template in dict.fromkeys((looked_at, *person.PLACES.values())):
        before = person.in_old_home(account, template)
        places += [before] if before is not None else []
    for location in places:
        with contextlib.suppress(NotEnrolled, PathError):  # its content does not matter here
            _as_member(location.account, functools.partial(_find, location))
            found.append(location.path)
    return found


def _find(location: Location) -> None:
    store = Editor(location)
    try:
        store.open_enrolled()
    finally:
        store.close()


def _look(location: Location, facts: Facts, now: int, config: Config) -> None:
    store = Editor(location)
    try:
        _take(store, facts, now, config)
    finally:
        store.close()


def _take(store: Editor | FleetEditor, facts: Facts, now: int, config: Config) -> None:
    inventory = Inventory(store)
    seen = inventory.facts()
    account, here = store.location.account, host.name() if config.fleet else ""
    waiting = waits(inventory.state, account.uid, now, with_pin=inventory.has_pin, host=here)
    facts.update(
        status=ENROLLED,
        tokens=seen["tokens"],
        recovery_codes=seen["recovery_codes"],
        state=seen["state"],
        last_used=utc(inventory.last_used),
        pin=inventory.has_pin,
        waiting=[] if config.no_throttle else waiting,
        issued_code_until=utc(inventory.issued_until(now)),
        record_ahead_s=inventory.record_ahead_s(now, Limits.of(config)),
    )
    if seen["state"] == "damaged":
        error = DamagedState(f"{store.location.path}/state", "is damaged")
        location = store.location if isinstance(store.location, Location) else None
        facts["problem"], facts["cure"] = str(error), _cure_of(error, account.name, location)


def waits(state: State | None, uid: int, now: int, *, with_pin: bool, host: str = "") -> list[Facts]:
    """Return which attempts must wait, and until when. The state has only hashes of other hosts' addresses.

    Args:
        state: the state; None if there is none.
        uid: of the user.
        now: Unix seconds.
        with_pin: waits end after 15 minutes at most.
        host: the name of this host, if other hosts use the same state.
    """
    local = {throttle.source_of("", each, host=host).name: f"uid {each}" for each in (0, uid)}
    shared = dict(zip(SHARED_BUCKETS, ("other local users", "other hosts"), strict=True))
    waits = []
    for bucket, (wrong, last) in (state.wrong if state is not None else {}).items():
        until = min(last, now) + throttle.wait_s(wrong, with_pin=with_pin)
        if until > now:
            source = shared.get(bucket) or local.get(bucket) or f"a known place ({bucket[:6]})"
            waits.append({"source": source, "until": utc(until), "wrong_answers": wrong})
    return waits


def survey(
    users: Sequence[pwd.struct_passwd],
    look: Callable[[pwd.struct_passwd], Facts],
    *,
    patience_s: float = PATIENCE_S,
) -> Iterator[Facts]:
    """Read the facts of all users, in order.

    Args:
        users: the users.
        look: reads the facts of one user, in a separate process.
        patience_s: the time limit for one user, in seconds.
    """
    place = 0
    gone: dict[str, str] = {}
    while place < len(users):
        mounts = _mounts() if gone else []
        seen = [each for each in users[place:] if not _stands_on(each, mounts, gone)]
        worker = child.Worker(functools.partial(_report, seen, look))
        hung: pwd.struct_passwd | None = None
        while place < len(users) and hung is None:
            entry = users[place]
            place += 1
            mount = _stands_on(entry, mounts, gone)
            if mount:
                yield _unknown(entry, f"{entry.pw_dir}: not looked at; {mount} does not answer, see {gone[mount]}")
                continue
            line = worker.line(limit_s=patience_s, meanwhile=terminal.checkpoint)
            if line is None:
                hung = entry
                yield _unknown(entry, f"{entry.pw_dir}: does not answer for {patience_s:g} s")
            else:
                yield json.loads(line)
        worker.end()
        if hung is not None:
            for mount in _shared_mounts(hung, _mounts()):
                gone.setdefault(mount, hung.pw_name)


def _report(users: Sequence[pwd.struct_passwd], look: Callable[[pwd.struct_passwd], Facts], write: child.Write) -> None:
    for entry in users:
        write(json.dumps(look(entry)).encode() + b"\n")


def _mounts() -> list[str]:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as table:
            found = [line.split(" ")[4] for line in table]
    except OSError:
        return []
    return [each.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\") for each in found]


def _mount_of(path: str, mounts: list[str]) -> str:
    return max((each for each in mounts if _is_below(path, each)), key=len, default="/")


def _is_below(path: str, directory: str) -> bool:
    return (path.rstrip("/") + "/").startswith(directory.rstrip("/") + "/")


def _shared_mounts(entry: pwd.struct_passwd, mounts: list[str]) -> list[str]:
    """Return the mount of a home that does not answer, if other homes can be on it, too.

    A mount at or below the home is this user's alone, perhaps made by the user. It says nothing about other users.
    """
    if any(_is_below(each, entry.pw_dir) for each in mounts):
        return []
    mount = _mount_of(entry.pw_dir, mounts)
    return [mount] if mount != "/" else []


def _stands_on(entry: pwd.struct_passwd, mounts: list[str], gone: dict[str, str]) -> str:
    mount = _mount_of(entry.pw_dir, mounts) if gone else ""
    return mount if mount in gone else ""
