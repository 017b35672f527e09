"""What an administrator of a realm does in etcd: users, roles and lists. A login needs none of it. Each call that makes
something looks first whether it is there, so every command can be run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from pam_softtoken.account import seal
from pam_softtoken.errors import DamagedState
from pam_softtoken.fleet import etcd_messages, realm
from pam_softtoken.fleet.engine import AnswerTooLarge, EngineDown, Entry
from pam_softtoken.fleet.etcd import Etcd
from pam_softtoken.fleet.etcd_messages import bytes_field, number_field
from pam_softtoken.fleet.realm import Realm
from pam_softtoken.option_values import MAX_HOST_CHARACTERS

ADMINISTRATOR = "root"
"""etcd knows no other name for the user with all rights."""
CALL_S = 5.0
_PAGE = 200
_HOST_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-"
_MAX_NAME = 1024
"""More than the name of any user of a host takes."""
_TRIES = 100
Put = dict[str, bytes | None]
"""Values by key. None deletes the key."""
_READ, _READ_WRITE = 0, 2
_RANGE = "/etcdserverpb.KV/Range"
_AUTH = "/etcdserverpb.Auth/"


class KeepsChanging(EngineDown):
    """Others change the same keys again and again. A host that was broken into can do that."""

    HINT = "run the same command again; if that does not help, a host does it on purpose, see softtoken-fleet(7)"


def hint_after(error: EngineDown, otherwise: str) -> str:
    """Return what helps after an error of the cluster. `otherwise` is for one that has given no answer."""
    return error.HINT if isinstance(error, KeepsChanging) else otherwise


def can_be_host(name: str) -> bool:
    """Check whether a name can be that of a host of a realm. etcd can have others: its administrator makes them."""
    return 1 <= len(name) <= MAX_HOST_CHARACTERS and not name.strip(_HOST_CHARACTERS) and name[0] not in ".-"


def user_of(realm_name: str, host: str) -> str:
    """Return the name of a host as a user of etcd."""
    return f"softtoken-{realm_name}-{host}"


def role_of(realm_name: str, kind: str) -> str:
    """Return the name of a role: `host` for all hosts, `enrol` for those that may write tokens."""
    return f"softtoken-{realm_name}-{kind}"


def place_of(name: str) -> tuple[str, str]:
    """Return the kind and the user of a key, from its part below the prefix of the realm. The floor has no user. A host
    can make keys of nobody: their user begins with "?", and no seal is right for them.

    Raises:
        ValueError: no realm has such a key.
    """
    kind, slash, user = name.partition("/")
    if not (kind in (realm.TOKENS, realm.STATE) and slash) and name not in (realm.FLOOR, realm.ENROL):
        raise ValueError("not a key of a realm")
    return kind, _user_of(user) if slash else ""


def _user_of(part: str) -> str:
    try:
        user = realm.decoded(part)
    except ValueError:
        user = ""
    return user or f"?{part}"


def _name_of(key: bytes) -> str:
    """Return the text of a key. A host can make keys of any bytes. If they are no text of one line, or too long, the
    text has a backslash: it is the name of nobody.
    """
    text = "".join(chr(byte) if 0x20 < byte < 0x7F else f"\\x{byte:02x}" for byte in key[:_MAX_NAME])
    return text if len(key) <= _MAX_NAME else f"{text}\\"


def key_id_in(entry: Entry) -> str:
    """Return the id of the seal key that a value names; empty if it is not sealed."""
    try:
        return seal.key_id_of(entry.value or b"")
    except ValueError:
        return ""


class Cluster:
    """The cluster, as its administrator.

    Args:
        engine: connected with the administrator's certificate.
        own: the realm.
    """

    def __init__(self, engine: Etcd, own: Realm) -> None:
        self.engine = engine
        self.realm = own

    def set_up(self) -> None:
        """Create the roles of the realm, and turn on that rights are checked at all.

        Raises:
            EngineDown: the cluster does not answer.
        """
        users, roles = self._names("UserList"), self._names("RoleList")
        if ADMINISTRATOR not in roles:
            self._ask("RoleAdd", bytes_field(1, ADMINISTRATOR.encode()))
        self._add_user(ADMINISTRATOR, ADMINISTRATOR, users)
        everything = self.realm.prefix("")
        rights = {
            "host": ((_READ, everything), (_READ_WRITE, self.realm.prefix(realm.STATE))),
            "enrol": ((_READ_WRITE, self.realm.prefix(realm.TOKENS)),),
        }
        for kind, permissions in rights.items():
            role = role_of(self.realm.name, kind).encode()
            if role.decode() not in roles:
                self._ask("RoleAdd", bytes_field(1, role))
            for right, prefix in permissions:
                key = prefix.encode()
                # The first field may be 0, which Protocol Buffers leave out.
                permission = number_field(1, right) + bytes_field(2, key) + bytes_field(3, _end_of(key))
                self._ask("RoleGrantPermission", bytes_field(1, role) + bytes_field(2, permission))
        self._ask("AuthEnable", b"")

    def add_host(self, host: str, *, enrols: bool) -> str:
        """Create a host a member, and return its name as a user of etcd.

        Raises:
            EngineDown: the cluster does not answer.
        """
        user = user_of(self.realm.name, host)
        users = self._names("UserList")
        self._add_user(user, role_of(self.realm.name, "host"), users)
        if enrols:
            self._grant(user, role_of(self.realm.name, "enrol"))
            self._name_enrolment_host(host)
        return user

    def _name_enrolment_host(self, host: str) -> None:
        """Add a host to those that messages name. What cannot be read is written anew."""
        key = self.realm.key(realm.ENROL)

        def named(present: list[Entry]) -> Put | None:
            names: list[str] = []
            value = present[0].value
            if value is not None:
                with suppress(DamagedState):
                    names = self.realm.open_enrolment_hosts(value)
            return None if host in names else {key: self.realm.sealed_enrolment_hosts([*names, host])}

        self.change([key], named)

    def change(
        self, keys: list[str], decide: Callable[[list[Entry]], Put | None], present: list[Entry] | None = None
    ) -> None:
        """Decide what is to be written under some keys, and write it, unless others have changed one of them meanwhile.
        Then decide again.

        Args:
            keys: all on which the decision depends.
            decide: gets what is under each key. It returns what to write (None deletes), or None if that is nothing.
            present: what is under them, if it was read already.

        Raises:
            KeepsChanging: others keep changing them.
            EngineDown: the cluster does not answer, or this host has no right to do that.
        """
        if present is None:
            present = self.engine.read(keys, deadline_s=time.monotonic() + CALL_S)
        for _ in range(_TRIES):
            put = decide(present)
            if put is None:
                return
            expected = {key: entry.revision for key, entry in zip(keys, present, strict=True)}
            swapped = self.engine.swap(expected, put, keys, deadline_s=time.monotonic() + CALL_S)
            present = swapped.entries
            # An answer can be lost, and the request is repeated. No other seal is the same as ours.
            if swapped.done or all(dict(zip(keys, present, strict=True))[key].value == put[key] for key in put):
                return
        raise KeepsChanging("others keep changing the same")

    def hosts(self) -> list[str]:
        """Return the names of the hosts that are members."""
        start = user_of(self.realm.name, "")
        return sorted(name.removeprefix(start) for name in self._names("UserList") if name.startswith(start))

    def listed(self, kind: str) -> dict[str, Entry]:
        """Return what is under all users' keys of a kind at one moment, by the user's name.

        Raises:
            EngineDown: the cluster does not answer.
        """
        prefix = self.realm.prefix(kind)
        return {_user_of(key.removeprefix(prefix)): entry for key, entry in self._below(prefix)}

    def some(self, kind: str) -> dict[str, Entry]:
        """Return what is under the keys of the first users of a kind, as `listed` does for all.

        Raises:
            EngineDown: the cluster does not answer.
        """
        prefix = self.realm.prefix(kind)
        return {_user_of(key.removeprefix(prefix)): entry for key, entry in islice(self._below(prefix), _PAGE)}

    def everything(self) -> dict[str, bytes]:
        """Return all keys and values of the realm at one moment.

        Raises:
            EngineDown: the cluster does not answer.
        """
        return {key: entry.value or b"" for key, entry in self._below(self.realm.prefix(""))}

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Return everything of the realm at one moment, with the keys' parts below its prefix.

        Raises:
            EngineDown: the cluster does not answer.
        """
        prefix = self.realm.prefix("")
        return ((key.removeprefix(prefix), entry) for key, entry in self._below(prefix))

    def _below(self, prefix: str) -> Iterator[tuple[str, Entry]]:
        start = prefix.encode()
        key, end, revision, most = start, _end_of(start), 0, _PAGE
        while True:
            request = bytes_field(1, key) + bytes_field(2, end) + number_field(3, most) + number_field(4, revision)
            try:
                answer = self.engine.call(_RANGE, request, deadline_s=time.monotonic() + CALL_S)
            except AnswerTooLarge:
                if most == 1:
                    raise
                most = most // 4 or 1  # a host can write values as large as etcd takes
                continue
            try:
                fields = etcd_messages.fields_of(answer)
                page = etcd_messages.entries_in(fields)
                revision = revision or etcd_messages.revision_in(fields)
            except ValueError as error:
                raise EngineDown(str(error)) from None
            yield from ((_name_of(name), entry) for name, entry in page)
            if len(page) < most:
                return
            key = page[-1][0] + b"\0"

    def _add_user(self, user: str, role: str, users: list[str]) -> None:
        if user not in users:
            no_password = bytes_field(3, number_field(1, 1))
            self._ask("UserAdd", bytes_field(1, user.encode()) + no_password)
        self._grant(user, role)

    def _grant(self, user: str, role: str) -> None:
        self._ask("UserGrantRole", bytes_field(1, user.encode()) + bytes_field(2, role.encode()))

    def _names(self, method: str) -> list[str]:
        try:
            fields = etcd_messages.fields_of(self._ask(method, b""))
            return [value.decode() for number, value in fields if number == 2 and isinstance(value, bytes)]
        except ValueError as error:
            raise EngineDown(str(error)) from None

    def _ask(self, method: str, message: bytes) -> bytes:
        return self.engine.call(_AUTH + method, message, deadline_s=time.monotonic() + CALL_S)


def _end_of(prefix: bytes) -> bytes:
    """Return the end of all keys with a prefix."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
