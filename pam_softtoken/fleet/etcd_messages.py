"""The messages of etcd's API that a login needs, in the encoding of Protocol Buffers: a transaction and its answer. The
reader is strict: every length is checked, and the answer must be about what was asked. Does no I/O.

Source:
    etcd's `rpc.proto` and `kv.proto`; "Protocol Buffers: Encoding".
"""

from __future__ import annotations

from pam_softtoken.fleet.engine import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    Fields = list[tuple[int, int | bytes]]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 200_000
_MOD = 2  # CompareTarget: the revision of the last change; 0 if there is no such key


def varint(value: int) -> bytes:
    """Return a number of 0 to 2**64-1."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def number_field(number: int, value: int) -> bytes:
    """Return a field that is a number."""
    return varint(number << 3 | VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a field that is a text, bytes or a message."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("a number has no end")
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            if value >= 2**64:
                raise ValueError("a number is too large")
            return value, place


def fields_of(data: bytes) -> Fields:
    """Read the fields of a message, in their order. A later version of etcd may send fields that we do not know.

    Raises:
        ValueError: it is no message.
    """
    found: Fields = []
    place = 0
    while place < len(data):
        tag, place = _read_varint(data, place)
        number, kind = tag >> 3, tag & 7
        if number == 0 or len(found) >= MAX_FIELDS:
            raise ValueError("not a message")
        if kind == VARINT:
            value, place = _read_varint(data, place)
            found.append((number, value))
            continue
        if kind == BYTES:
            length, place = _read_varint(data, place)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError("a field is of an unknown kind")
        if length > len(data) - place:
            raise ValueError("a field goes beyond its message")
        found.append((number, data[place : place + length]))
        place += length
    return found


def message_in(fields: Fields, number: int) -> bytes:
    """Return the one field of a number that is bytes; empty if it is missing, as Protocol Buffers mean it.

    Raises:
        ValueError: it is there twice, or is a number.
    """
    values = [value for each, value in fields if each == number]
    if len(values) > 1 or (values and not isinstance(values[0], bytes)):
        raise ValueError("a field is not what it should be")
    return values[0] if values else b""  # type: ignore[return-value]


def number_in(fields: Fields, number: int) -> int:
    """Return the one field of a number that is a number; 0 if it is missing.

    Raises:
        ValueError: it is there twice, or is bytes.
    """
    values = [value for each, value in fields if each == number]
    if len(values) > 1 or (values and not isinstance(values[0], int)):
        raise ValueError("a field is not what it should be")
    return values[0] if values else 0  # type: ignore[return-value]


def transaction(expected: dict[bytes, int], put: dict[bytes, bytes | None], read: list[bytes]) -> bytes:
    """Return a transaction: if all keys are at these revisions, change some; otherwise read some.

    Args:
        expected: for each key, the revision of its last change; 0 means that there is no such key. Without any, the
            transaction only reads.
        put: the new value for each key; None deletes it.
        read: keys.
    """
    compares = [
        bytes_field(1, number_field(2, _MOD) + bytes_field(3, key) + number_field(6, expected[key])) for key in expected
    ]
    gets = [bytes_field(1, bytes_field(1, key)) for key in read]
    changes = [
        bytes_field(3, bytes_field(1, key))
        if value is None
        else bytes_field(2, bytes_field(1, key) + bytes_field(2, value))
        for key, value in put.items()
    ]
    then = changes if expected else gets
    return b"".join((
        *compares,
        *(bytes_field(2, operation) for operation in then),
        *(bytes_field(3, operation) for operation in (gets if expected else [])),
    ))  # fmt: skip


def read_transaction(data: bytes, read: list[bytes]) -> tuple[bool, int, list[Entry]]:
    """Read the answer to a transaction.

    Args:
        data: the message.
        read: the keys that the transaction would read.

    Returns:
        Whether the comparison succeeded, the revision of the answer, and what was read, in the order of `read`. It is
        empty if the transaction has changed something.

    Raises:
        ValueError: it is not an answer to that.
    """
    fields = fields_of(data)
    revision = revision_in(fields)
    succeeded = number_in(fields, 2)
    if succeeded not in (0, 1) or revision <= 0:
        raise ValueError("not the answer to a transaction")
    responses = [value for number, value in fields if number == 3]
    gets = [_range_in(response) for response in responses]
    if all(get is None for get in gets):
        return bool(succeeded), revision, []
    if len(gets) != len(read):
        raise ValueError("not the answer to this question")
    return bool(succeeded), revision, [_entry_of(get, key) for get, key in zip(gets, read, strict=True)]


def revision_in(fields: Fields) -> int:
    """Return the revision of an answer.

    Raises:
        ValueError: it is not an answer.
    """
    return number_in(fields_of(message_in(fields, 1)), 3)


def _range_in(response: int | bytes) -> Fields | None:
    """Return the fields of an answer about keys; None if the operation was a change."""
    if not isinstance(response, bytes):
        raise ValueError("not the answer to a transaction")
    fields = fields_of(response)
    return fields_of(message_in(fields, 1)) if any(number == 1 for number, _ in fields) else None


def _entry_of(fields: Fields | None, key: bytes) -> Entry:
    if fields is None:
        raise ValueError("not the answer to this question")
    found = entries_in(fields)
    if not found:
        return Entry(None, 0)
    if len(found) > 1 or found[0][0] != key:
        raise ValueError("not the answer to this question")
    return found[0][1]


def entries_in(fields: Fields) -> list[tuple[bytes, Entry]]:
    """Return the keys of an answer, each with its value and revision.

    Raises:
        ValueError: it is not an answer.
    """
    found = []
    for number, value in fields:
        if number == 2:
            if not isinstance(value, bytes):
                raise ValueError("not a key and its value")
            pair = fields_of(value)
            revision = number_in(pair, 3)
            if revision <= 0:
                raise ValueError("a key without a revision")
            found.append((message_in(pair, 1), Entry(message_in(pair, 5), revision)))
    return found
