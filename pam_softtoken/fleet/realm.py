"""The names of a realm's keys in the engine, and the sealed values under them. Does no I/O, except for a nonce.

    /softtoken/v1/REALM/tokens/NAME    a token file
    /softtoken/v1/REALM/state/NAME     the nonce of the attempt that wrote it, then the text of a state
    /softtoken/v1/REALM/floor          no code of an earlier time counts, and none that was issued earlier
    /softtoken/v1/REALM/enrol          the names of the hosts that may write tokens, for messages

NAME is the canonical name of the user, percent-encoded. It is never the uid: hosts give the same person different ones.
"""

from __future__ import annotations

import os

from pam_softtoken.account import seal, state_format
from pam_softtoken.errors import DamagedState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.state import State

ROOT = "/softtoken/v1/"
TOKENS, STATE, FLOOR, ENROL = "tokens", "state", "floor", "enrol"
NONCE_BYTES = 16
MAX_TIME_DIGITS = 13
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def encoded(name: str) -> str:
    """Return a user's name as a part of a key.

    >>> encoded("CORP\\\\anna k")
    'CORP%5Canna%20k'
    """
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode("utf-8", "surrogateescape"))


def decoded(part: str) -> str:
    """Return the name of the user from a part of a key.

    Raises:
        ValueError: it is not one that `encoded` returns.
    """
    data, *rest = part.encode("ascii").split(b"%")
    for piece in rest:
        data += bytes.fromhex(piece[:2].decode("ascii")) + piece[2:]
    name = data.decode("utf-8", "surrogateescape")
    if encoded(name) != part:
        raise ValueError("not the name of a user")
    return name


class Realm:
    """One realm.

    Args:
        name: as in the `fleet` option.
        sealing: the key that seals what is written, 32 bytes. Its hosts share it.
        others: keys that only open, while the key is being changed.
    """

    __slots__ = ("_others", "_sealing", "name")

    def __init__(self, name: str, sealing: bytes, others: tuple[bytes, ...] = ()) -> None:
        self.name = name
        self._sealing = sealing
        self._others = others

    @property
    def sealing_id(self) -> str:
        """The id of the key that seals."""
        return seal.key_id(self._sealing)

    def key_ids(self) -> list[str]:
        """Return the ids of all keys."""
        return [seal.key_id(key) for key in (self._sealing, *self._others)]

    def _key_for(self, value: bytes) -> bytes | None:
        name = seal.key_id_of(value)
        return next((key for key in (self._sealing, *self._others) if seal.key_id(key) == name), None)

    def key(self, kind: str, user: str = "") -> str:
        """Return the key of a user's `TOKENS` or `STATE`, or of the `FLOOR` or `ENROL`."""
        return f"{ROOT}{self.name}/{kind}" + (f"/{encoded(user)}" if user else "")

    def prefix(self, kind: str) -> str:
        """Return the start of the keys of all users of a kind, or of all keys of the realm for an empty kind."""
        return f"{ROOT}{self.name}/{kind}/" if kind else f"{ROOT}{self.name}/"

    def seal(self, kind: str, user: str, data: bytes) -> bytes:
        """Return a value that nobody without the seal key can read, change, or move to another key."""
        place = (self.name, kind, encoded(user))
        return seal.seal(self._sealing, data, place, nonce=os.urandom(seal.NONCE_BYTES))

    def open(self, kind: str, user: str, value: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            DamagedState: nobody with the seal key has written this value for this key.
        """
        try:
            key = self._key_for(value)
            if key is None:
                raise ValueError("is sealed with another key")
            return seal.unseal(key, value, (self.name, kind, encoded(user)))
        except ValueError as error:
            raise DamagedState(self.key(kind, user), f"its seal is not right: the value {error}") from None

    def sealed_state(self, user: str, state: State, nonce: bytes, live: frozenset[str]) -> bytes:
        """Return the value of a state. `live` is as for `state_format.encode`."""
        return self.seal(STATE, user, nonce + state_format.encode_text(state, live))

    def open_state(self, user: str, value: bytes) -> tuple[bytes, State]:
        """Return the nonce and the state.

        Raises:
            DamagedState: as for `open`, or we have not written it.
        """
        data = self.open(STATE, user, value)
        try:
            if len(data) < NONCE_BYTES:
                raise ValueError("too short")
            return data[:NONCE_BYTES], state_format.decode_text(data[NONCE_BYTES:])
        except ValueError:
            raise DamagedState(self.key(STATE, user), "is not a state that we have written") from None

    def sealed_enrolment_hosts(self, hosts: list[str]) -> bytes:
        """Return the value with the names of the enrolment hosts."""
        return self.seal(ENROL, "", "\n".join(hosts).encode("ascii"))

    def open_enrolment_hosts(self, value: bytes) -> list[str]:
        """Return the names of the enrolment hosts.

        Raises:
            DamagedState: as for `open`.
        """
        return self.open(ENROL, "", value).decode("ascii", "replace").split("\n")

    def sealed_floor(self, seconds: int) -> bytes:
        """Return the value of a floor, in Unix seconds."""
        return self.seal(FLOOR, "", b"%d" % seconds)

    def open_floor(self, value: bytes) -> int:
        """Return the floor in Unix seconds.

        Raises:
            DamagedState: as for `open`.
        """
        text = self.open(FLOOR, "", value)
        if not text.isdigit() or len(text) > MAX_TIME_DIGITS:
            raise DamagedState(self.key(FLOOR), "is not a time")
        return int(text)
