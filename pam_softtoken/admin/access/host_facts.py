"""Collect the facts for the model of ways in: accounts, keys, tokens, sudo's rules, sshd's settings.

It only reads. Users' files are opened as the user, in the separate process of `survey`, which may hang. A fact that
cannot be read in time is unknown. This module judges nothing.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pam_softtoken import platform_facts
from pam_softtoken.account import user_lookup
from pam_softtoken.admin.access import authorized_keys
from pam_softtoken.admin.access.proofs import (
    BEFORE,
    ENROLLED,
    HOMELESS,
    NEVER,
    UNKNOWN,
    UNUSABLE,
    Asking,
    Door,
    Person,
    Settings,
)
from pam_softtoken.admin.common import bounded, logins, survey
from pam_softtoken.admin.common.survey import Facts
from pam_softtoken.admin.services import locker_check
from pam_softtoken.admin.services.option_check import settings_of
from pam_softtoken.admin.sshd import match_blocks, server
from pam_softtoken.admin.sshd.config_lines import Directive
from pam_softtoken.admin.sshd.match_blocks import MAYBE, NO, YES, Names, Peer
from pam_softtoken.config import Config
from pam_softtoken.errors import ConfigError, LookUpFailed, UnknownUser
from pam_softtoken.pam import home_making
from pam_softtoken.pam.stack import Line, Stack

MOST_SUDOERS = 200
"""With more accounts than this, sudo is not asked about each one."""
_SUDO_GROUPS = frozenset({"sudo", "wheel", "admin"})
_SECONDS_PER_DAY = 86400
_NOBODY = "no-such-user.softtoken"


class Shadow(NamedTuple):
    """The facts about an account in /etc/shadow."""

    password: int
    expired: bool
    locked: bool


class Sshd(NamedTuple):
    """sshd's settings, for all its users and connections.

    Args:
        directives: the lines that contain them.
        peers: the classes of connections.
        rows: the settings, by class of users and class of connections.
        usual: the settings of a user whom no Match block selects.
    """

    directives: list[Directive]
    peers: list[Peer]
    rows: dict[tuple[tuple[bool, ...], Peer], Settings]
    usual: Settings

    def settings(self, names: Names, peer: Peer) -> Settings:
        """Return the settings for a user and a connection."""
        return self.rows[match_blocks.key_of(names, self.directives), peer]


def read_sshd(
    people: Iterable[Names],
    directives: list[Directive],
    config: str = server.CONFIG,
    *,
    ask: Callable[..., Settings] = server.ask,
) -> Sshd:
    """Ask sshd for the settings of all users.

    Args:
        people: its users.
        directives: the lines of its configuration.
        config: the file with the present or the planned configuration.
        ask: asks sshd.

    Raises:
        AdministrationFailed: it does not answer.
    """
    asked = f"user={_NOBODY},{Peer('', '192.0.2.77', '192.0.2.77').specification}"
    usual = ask("-T", "-f", config, "-C", asked)
    peers = match_blocks.peers(directives, use_dns=usual.get("usedns") == "yes")
    of_key: dict[tuple[bool, ...], str] = {}
    for names in people:
        of_key.setdefault(match_blocks.key_of(names, directives), names.user)
    rows: dict[tuple[tuple[bool, ...], Peer], Settings] = {}
    for key, user in of_key.items():
        for peer in peers:
            rows[key, peer] = ask("-T", "-f", config, "-C", f"user={user},{peer.specification}")
    return Sshd(directives, peers, rows, usual)


def read_files(people: Iterable[Names], directives: list[Directive], defaults: Settings) -> Sshd:
    """Read the settings from sshd's files, if sshd itself cannot be asked.

    Args:
        people: its users.
        directives: the lines of its configuration.
        defaults: the wanted settings with their default values.
    """
    nobody, anywhere = Names(_NOBODY, ()), Peer("", "192.0.2.77", "192.0.2.77")
    peers = match_blocks.peers(directives, use_dns=False)
    rows: dict[tuple[tuple[bool, ...], Peer], Settings] = {}
    for names in people:
        for peer in peers:
            key = match_blocks.key_of(names, directives), peer
            if key not in rows:
                rows[key] = match_blocks.settings_in(directives, names, peer, defaults)
    return Sshd(directives, peers, rows, match_blocks.settings_in(directives, nobody, anywhere, defaults))


def door_of(stack: Stack) -> Door:
    """Return what a PAM service asks for."""
    asking: dict[Line, Asking | None] = {}
    makes_homes = _makes_homes(stack)
    for line in stack.ours:
        settings = settings_of(line)
        is_open = settings is not None and not locker_check.is_closed(stack.service, settings.place)
        asking[line] = asking_of(settings, makes_homes=makes_homes) if settings is not None and is_open else None
    return Door(stack.service, stack.of("auth"), asking, stack.of("account"))


def _makes_homes(stack: Stack) -> bool:
    try:
        home_making.require_in_each_session(stack)
    except ConfigError:
        return False
    return True


def asking_of(settings: Config, *, makes_homes: bool = False) -> Asking:
    """Return what a line with these settings asks for.

    Args:
        settings: of the line.
        makes_homes: each session of its service makes the home directory.
    """
    passing = settings.nullok
    if settings.required_from:
        passing = settings.required_from > time.strftime("%Y-%m-%d")
    return Asking(
        settings.place,
        passes_never=passing or settings.enrol,
        passes_homeless=passing and makes_homes,
        from_password=settings.try_first_pass or settings.use_first_pass or settings.forward_pass,
        asks=not settings.use_first_pass,
    )


def accounts() -> dict[str, pwd.struct_passwd]:
    """Return all accounts by name. An account without a login shell can still have a key and a forced command."""
    return {entry.pw_name: entry for entry in logins.everybody()}


def names_of(entries: Mapping[str, pwd.struct_passwd]) -> dict[str, Names]:
    """Return the groups of accounts, by name."""
    known: dict[int, str] = {}
    found = {}
    for name, entry in entries.items():
        groups = []
        for gid in os.getgrouplist(name, entry.pw_gid):
            if gid not in known:
                try:
                    known[gid] = grp.getgrgid(gid).gr_name
                except KeyError:
                    known[gid] = str(gid)
            groups.append(known[gid])
        found[name] = Names(name, tuple(groups))
    return found


def people(
    entries: Mapping[str, pwd.struct_passwd],
    names: Mapping[str, Names],
    stores: Iterable[Config],
    key_files: Mapping[str, frozenset[str]],
    *,
    sudo: bool,
) -> tuple[list[Person], dict[str, Facts]]:
    """Read the facts of all accounts.

    Args:
        entries, names: the accounts, and their groups.
        stores: the module's settings, one for each store.
        key_files: for each account, the values of `AuthorizedKeysFile`.
        sudo: find out what sudo allows each user.

    Returns:
        The users, and the results of the survey for the first of the stores.
    """
    shadow = read_shadow()
    shells = {entry.pw_name for entry in logins.who_can_log_in()}
    settings = list(stores)
    now = int(time.time())

    def look(entry: pwd.struct_passwd) -> Facts:
        facts = [survey.facts_of(entry, each, now=now) for each in settings]
        keys = {pattern: authorized_keys.keys_of(entry, pattern) for pattern in key_files.get(entry.pw_name, ())}
        return {"stores": facts, "keys": keys, "user": entry.pw_name}

    found = []
    seen: dict[str, Facts] = {}
    for entry, looked in zip(entries.values(), survey.survey(list(entries.values()), look), strict=True):
        facts = looked.get("stores")
        if facts:
            seen[entry.pw_name] = facts[0]
        enrolments = [
            (each.place, enrolment_of(facts[n], each) if facts else UNKNOWN) for n, each in enumerate(settings)
        ]
        keys = looked.get("keys", dict.fromkeys(key_files.get(entry.pw_name, ()), MAYBE))
        own = shadow.get(entry.pw_name, Shadow(MAYBE, expired=False, locked=False))
        found.append(
            Person(
                names[entry.pw_name], entry.pw_uid, own.password, tuple(keys.items()), tuple(enrolments),
                expired=own.expired, locked=own.locked, has_shell=entry.pw_name in shells,
            )
        )  # fmt: skip
    return (list(_with_sudo(found)) if sudo else found), seen


def enrolment_of(facts: Facts, settings: Config) -> str:
    """Return the state of enrolment that follows from the facts of a survey."""
    status = facts["status"]
    if status == survey.ENROLLED:
        is_usable = facts["state"] != "damaged" and not (settings.pin_required and facts["pin"] is False)
        return ENROLLED if is_usable else UNUSABLE
    if status == survey.NOT_ENROLLED:
        return BEFORE if facts["was_enrolled"] else NEVER
    if facts["no_home"] == survey.NOT_YET:
        return HOMELESS
    return UNKNOWN if "does not answer" in str(facts["problem"]) else UNUSABLE


def read_shadow(path: str = logins.SHADOW) -> dict[str, Shadow]:
    """Read which accounts have a password, are locked or have expired. Source: shadow(5)."""
    today = int(time.time()) // _SECONDS_PER_DAY
    found = {}
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return {}
    for line in lines:
        fields = line.split(":")
        if len(fields) < 8:
            continue
        name, field, changed, most, inactive, end = fields[0], fields[1], fields[2], fields[4], fields[6], fields[7]
        expired = end.isdecimal() and int(end) <= today
        if changed.isdecimal() and most.isdecimal() and inactive.isdecimal():
            expired |= int(changed) + int(most) + int(inactive) < today
        usable = field == "" or (field[0] == "$" or re.fullmatch(r"[./0-9A-Za-z]{13}", field) is not None)
        found[name] = Shadow(YES if usable else NO, expired, field.startswith("!"))
    return found


def _with_sudo(found: Sequence[Person]) -> Iterator[Person]:
    likely = [
        each for each in found if each.uid != 0 and (each.has_shell or each.password or any(dict(each.keys).values()))
    ]
    likely.sort(key=lambda each: not is_usual_sudoer(each.names))
    rights = rights_of([each.name for each in likely[:MOST_SUDOERS]])
    unasked = {each.name for each in likely[MOST_SUDOERS:]}
    for each in found:
        if each.uid == 0:
            yield each._replace(root=YES)
        elif each.name in unasked:
            yield each._replace(root=MAYBE, sudo=MAYBE, asked=MAYBE)
        else:
            root, sudo, needed = rights.get(each.name, (NO, NO, YES))
            yield each._replace(root=root, sudo=sudo, asked=needed)


def is_usual_sudoer(names: Names) -> bool:
    """Check whether a user is in a group that usually may use sudo."""
    return not _SUDO_GROUPS.isdisjoint(names.groups)


def rights_of(names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Ask sudo about users. Up to `MOST_SUDOERS` are a reasonable number.

    Returns:
        For each name what `sudo_rights` finds.
    """
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(_sudo, names), strict=True))


def _sudo(name: str) -> tuple[int, int, int]:
    answer = bounded.ask(platform_facts.SUDO, "-n", "-l", "-U", name)
    if answer is None:
        return (NO, NO, YES) if not os.path.exists(platform_facts.SUDO) else (MAYBE, MAYBE, MAYBE)
    return sudo_rights(answer.stdout)


def sudo_rights(listed: str) -> tuple[int, int, int]:
    """Read the output of `sudo -l -U`: may they become root, may they run anything, are they asked. Source: sudo(8)."""
    text = re.sub(r"\n[ \t]{8,}", " ", listed)
    allowed = text.partition("may run the following commands")[2]
    entries = re.findall(r"^\s+\(([^)]*)\)\s*(.*)$", allowed, re.MULTILINE)
    if not entries:
        return NO, NO, YES
    root, asked = NO, NO
    defaults = text.partition("may run the following commands")[0]
    for runas, commands in entries:
        users = re.split(r"[,:\s]+", runas.partition(":")[0].strip())
        is_root = "root" in users or "ALL" in users
        is_all = re.search(r"(?:^|[\s,])ALL(?:,|$)", commands) is not None
        root = max(root, (YES if is_all else MAYBE) if is_root and "!" not in runas else NO)
        asked = max(asked, NO if "NOPASSWD:" in commands else YES)
    if "!authenticate" in defaults:
        asked = NO
    if re.search(r"\b(?:rootpw|targetpw|runaspw)\b", defaults):
        return min(root, MAYBE), MAYBE, asked  # another user's password
    return root, YES, asked


def runner() -> str:
    """Return the name of the user who runs this program, before they became root."""
    name = os.environ.get("SUDO_USER", "")
    try:
        if name and name != "root":
            return user_lookup.account_of_name(name).name
        return user_lookup.account_of_uid(int(Path("/proc/self/loginuid").read_text(encoding="ascii"))).name
    except (UnknownUser, LookUpFailed, OSError, ValueError, OverflowError):
        return "root"
