"""List root's records for accounts that are gone, were renamed, or got another uid: the place, and what helps.

It only reads. These records are tokens in a root-owned store, marks, records of names and of home directories,
revocations, tokens that sign, used codes recorded in /run, and changes of a service that wait for a login. A
grace time and an issued code are in a user's state file, and are removed with its store.
"""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pam_softtoken.account import (
    account_record,
    enrolled_mark,
    entries,
    places,
    safe_open,
    signer_records,
    signers,
    token_file,
    user_lookup,
)
from pam_softtoken.account.location import TOKENS, Location
from pam_softtoken.account.store import text_of
from pam_softtoken.admin.common import logins, person
from pam_softtoken.errors import ConfigError, LookUpFailed, PathError, UnknownUser
from pam_softtoken.login import login_note

STORE, MARK, NAME, HOME = "store", "mark", "name", "home"
REVOCATIONS, RECORD, AWAITED = "revocations", "record", "awaited"
SIGNER, SIGNER_NAME = "signer", "signer-name"
GONE, CHANGED, UNKNOWN = "gone", "changed", "unknown"


class Orphan(NamedTuple):
    """One file or directory that fits no account.

    Attributes:
        kind: one of the words above.
        path: its path.
        user, uid: the owner it names; None if it does not name one.
        account: the state of that account: `GONE`, `CHANGED` (it has another name or uid), or `UNKNOWN`.
        problem: the state in words.
        cure: the command that helps; empty if there is none.
        otherwise: the command if today's account belongs to another user; empty if there is none.
    """

    kind: str
    path: str
    user: str | None
    uid: int | None
    account: str
    problem: str
    cure: str = ""
    otherwise: str = ""


class _Accounts:
    """The accounts of this host. Each is looked up once, because a directory service may be slow."""

    def __init__(self) -> None:
        everybody = [entry for entry in logins.everybody() if entry.pw_name]
        self._listed = {(entry.pw_name, entry.pw_uid) for entry in everybody}
        self.heirs = _heirs(everybody)
        self.uids = {entry.pw_uid for entry in everybody}
        self._named: dict[str, safe_open.Account | None] = {}
        self._numbered: dict[int, safe_open.Account | None] = {}

    def named(self, name: str) -> safe_open.Account | None:
        """Look up an account by its name; raise `LookUpFailed` if there is no answer."""
        if name not in self._named:
            try:
                self._named[name] = user_lookup.account_of_name(name)
            except UnknownUser:
                self._named[name] = None
        return self._named[name]

    def numbered(self, uid: int) -> safe_open.Account | None:
        """Look up an account by its uid; raise `LookUpFailed` if there is no answer."""
        if uid not in self._numbered:
            try:
                self._numbered[uid] = user_lookup.account_of_uid(uid)
            except UnknownUser:
                self._numbered[uid] = None
        return self._numbered[uid]

    def orphan(self, kind: str, path: str, name: str | None, uid: int) -> Orphan | None:
        """Return the orphan for a record of this account; None if the account exists, or may exist."""
        if (name, uid) in self._listed:
            return None
        try:
            named = self.named(name) if name else None
            numbered = self.numbered(uid)
        except LookUpFailed:
            return None
        present = named or numbered
        forget = f"{person.PROGRAM} forget {shlex.quote(name) + ' ' if name else ''}--uid {uid}"
        heir = self.heirs.get((name or "", uid))
        if heir is not None:
            there = token_file.described((heir.name, heir.uid))
            problem = f"{token_file.described((name or '', uid))} is gone, and {there} has the same home directory"
            rebind = shlex.join(token_file.rebind_words((heir.name, heir.uid), (name or "", uid)))
            return Orphan(kind, path, name, uid, CHANGED, problem, rebind, forget)
        if present is None:
            described = token_file.described((name, uid)) if name else f"with uid {uid}"
            return Orphan(kind, path, name, uid, GONE, f"there is no account {described} any more", forget)
        if (present.name, present.uid) == (name, uid):
            return None
        now = token_file.described((present.name, present.uid))
        problem = f"the account {name or uid} is {now} now"
        if named is not None and numbered is not None and named.uid != numbered.uid:
            problem += f", and uid {uid} is that of {numbered.name}"
        rebind = shlex.join(token_file.rebind_words((present.name, present.uid), (name or "", uid)))
        return Orphan(kind, path, name, uid, CHANGED, problem, rebind, forget)


def find(templates: Iterable[str]) -> list[Orphan]:
    """List the records that fit no account.

    Args:
        templates: the stores to search, as in the `store` option. Stores in home directories have no orphans.
    """
    accounts = _Accounts()
    found = [each for template in dict.fromkeys(templates) for each in _stores(template, accounts)]
    for each in (_marks, _names, _revocations, _records, _signers, _awaited):
        found += each(accounts)
    return found


def of_user(name: str, templates: Iterable[str]) -> list[Orphan]:
    """List the orphans of an account that has this name, or had another one in the same home directory."""
    former = {owner for owner, account in heirs_of_homes().items() if account.name == name}
    return [each for each in find(templates) if each.user == name or (each.user, each.uid) in former]


def heirs_of_homes() -> dict[tuple[str, int], safe_open.Account]:
    """Return the accounts that got another name and another uid, by the recorded name and uid."""
    return _heirs(logins.everybody())


def _heirs(entries: Iterable[pwd.struct_passwd]) -> dict[tuple[str, int], safe_open.Account]:
    found = {}
    for entry in entries:
        try:
            account = user_lookup.account_of(entry)
            before = account_record.former(account)
        except (LookUpFailed, PathError):
            continue
        if before is not None and before.name not in ("", account.name):
            found[before.name, before.uid] = account
    return found


# -- stores


def _stores(template: str, accounts: _Accounts) -> Iterator[Orphan]:
    for path in entries.stores_in(template):
        orphan = _look(path, template, accounts)
        if orphan is not None:
            yield orphan


def _look(path: str, template: str, accounts: _Accounts) -> Orphan | None:
    try:
        owner = _owner_of(path)
    except FileNotFoundError:
        return None
    except PathError as error:
        return Orphan(STORE, path, None, None, UNKNOWN, str(error))
    if owner is None:
        cure = f"{person.PROGRAM} rebind USER, for the user whose place that is"
        return Orphan(STORE, path, None, None, UNKNOWN, "the tokens do not name their account", cure)
    return accounts.orphan(STORE, path, *owner) or _misplaced(path, owner, template, accounts)


def _misplaced(path: str, owner: token_file.Owner, template: str, accounts: _Accounts) -> Orphan | None:
    """Return the orphan for tokens of an existing account that are not in its place; None if they are."""
    try:
        account = accounts.named(owner[0])
        right = Location(template, account).path if account is not None else path
    except (ConfigError, LookUpFailed):
        return None
    if right == path:
        return None
    problem = f"the tokens of {owner[0]} are expected in {right}"
    if os.path.lexists(right):
        return Orphan(STORE, path, *owner, UNKNOWN, f"{problem}, which exists, too")
    return Orphan(STORE, path, *owner, UNKNOWN, problem, shlex.join(["mv", path, right]))


def _owner_of(path: str) -> token_file.Owner | None:
    directory = safe_open.open_directory(path, below=None, owner=os.geteuid())
    try:
        tokens = safe_open.open_file(f"{path}/{TOKENS}", os.O_RDONLY, below=directory, owner=os.geteuid())
    finally:
        os.close(directory)
    try:
        data = safe_open.read(tokens, token_file.MAX_FILE_BYTES, path=f"{path}/{TOKENS}")
    finally:
        os.close(tokens)
    text = text_of(data, path=f"{path}/{TOKENS}", is_roots=True)
    return token_file.parse_any(text, path=f"{path}/{TOKENS}")[1]


# -- records named after a uid or a name


def _numbers_in(directory: str) -> list[tuple[str, int]]:
    """List the entries of a directory whose names begin with a uid, and those uids."""
    starts = [(name, name.partition("-")[0]) for name, _ in entries.present_in(directory)]
    return [(name, int(start)) for name, start in starts if start.isascii() and start.isdecimal()]


def _of_uids(kind: str, directory: str, accounts: _Accounts) -> Iterator[Orphan]:
    """List the records named after a uid without an account. The mark names the former owner."""
    for name, uid in _numbers_in(directory):
        try:
            is_somebodys = uid in accounts.uids or accounts.numbered(uid) is not None
        except LookUpFailed:
            continue
        orphan = (
            accounts.orphan(kind, f"{directory}/{name}", enrolled_mark.name_of(uid) or None, uid)
            if not is_somebodys
            else None
        )
        if orphan is not None:
            yield orphan


def _marks(accounts: _Accounts) -> Iterator[Orphan]:
    return _of_uids(MARK, places.ENROLLED, accounts)


def _revocations(accounts: _Accounts) -> Iterator[Orphan]:
    return _of_uids(REVOCATIONS, places.REVOKED, accounts)


def _records(accounts: _Accounts) -> Iterator[Orphan]:
    return _of_uids(RECORD, places.RUN, accounts)


def _names(accounts: _Accounts) -> Iterator[Orphan]:
    for name in entries.names_in(places.NAMES):
        if not account_record.is_record(name):
            continue
        path = f"{places.NAMES}/{name}"
        kind = HOME if name.startswith(account_record.HOME_PREFIX) else NAME
        try:
            known = account_record.read_record(path)
        except PathError as error:
            yield Orphan(kind, path, None, None, UNKNOWN, str(error))
            continue
        if known is None:
            continue
        if known.uid == account_record.NOT_A_UID:
            yield Orphan(kind, path, None, None, UNKNOWN, "is damaged", shlex.join(["rm", path]))
            continue
        orphan = accounts.orphan(kind, path, known.name, known.uid)
        if orphan is not None:
            yield orphan


def _signers(accounts: _Accounts) -> Iterator[Orphan]:
    """List the marks of users who sign commands."""
    uid_of: dict[str, int] = {}
    for uid in signer_records.uids():
        record = signer_records.read(uid)
        if record.owner is not None:
            uid_of[record.owner[0]] = record.owner[1]
        try:
            is_somebodys = record.owner is None and accounts.numbered(uid) is not None
        except LookUpFailed:
            continue
        owner = record.owner or (None, uid)
        if not is_somebodys:
            yield from _of_signer(accounts.orphan(SIGNER, record.path, *owner), accounts)
    for name in signer_records.names():
        path = signers.name_mark(name)
        if name in uid_of:
            yield from _of_signer(accounts.orphan(SIGNER_NAME, path, name, uid_of[name]), accounts)
            continue
        try:
            is_gone = accounts.named(name) is None
        except LookUpFailed:
            continue
        if is_gone:
            cure = f"{person.PROGRAM} forget {shlex.quote(name)}"
            yield Orphan(SIGNER_NAME, path, name, None, GONE, f"there is no account {name} any more", cure)


def _of_signer(orphan: Orphan | None, accounts: _Accounts) -> Iterator[Orphan]:
    """Change the advice: `forget` does not touch a mark that is in the way of an existing account."""
    if orphan is None or not os.path.lexists(orphan.path):  # it was removed since it was listed
        return
    if orphan.account != CHANGED or orphan.uid is None:
        yield orphan
        return
    present = accounts.numbered(orphan.uid) or accounts.named(orphan.user or "")
    otherwise = f"{person.PROGRAM} rebind {shlex.quote(present.name)} --newcomer" if present is not None else ""
    yield orphan._replace(otherwise=otherwise)


def _awaited(accounts: _Accounts) -> Iterator[Orphan]:
    """List the changes that wait for a login of a user who does not exist."""
    for service in entries.directories_in(places.CHANGES):
        place = f"{places.CHANGES}/{service}"
        names = entries.names_in(place)
        for name in names if login_note.PENDING in names else []:
            user = name.removeprefix(login_note.AWAITED)
            try:
                is_there = user == name or accounts.named(user) is not None
            except LookUpFailed:
                continue
            if not is_there:
                problem = f"only a login of {user} confirms the change of {service}, and there is no such account"
                keep, undo = (f"{person.PROGRAM} {word} {shlex.quote(service)}" for word in ("confirm", "disable"))
                yield Orphan(AWAITED, f"{place}/{name}", user, None, GONE, problem, keep, undo)
