"""Read JSON as apps export it, with suspicion. Anything too deep, too long, repeated or of a wrong type is refused by
its name. The readers of exports share this module. No message repeats a value, because any value could be a key. Does
no I/O.
"""

from __future__ import annotations

import json

from pam_softtoken.program_errors import Unreadable

MAX_BYTES = 8 * 2**20
"""An export may have a picture for each of its accounts."""
MAX_ENTRIES = 10_000
_MAX_NUMBER_CHARACTERS = 20
_MAX_INTEGER = 2**63 - 1
DAMAGED = "see whether all of the export was copied"


def parse(data: bytes) -> object:
    """Read a document.

    Args:
        data: no more than `MAX_BYTES`.

    Raises:
        Unreadable: it is not JSON, or JSON that two readers could understand differently.
    """
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_without_repetition,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_constant,
        )
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8 text", hint=DAMAGED) from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"line {error.lineno}: not JSON", hint=DAMAGED) from None
    except RecursionError:
        raise Unreadable("the JSON is nested too deeply") from None


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise Unreadable("a name stands twice in one JSON object")
    return result


def _integer(digits: str) -> int:
    if len(digits) > _MAX_NUMBER_CHARACTERS:
        raise Unreadable("a number is too long")
    return int(digits)


def _fraction(digits: str) -> float:
    # None of the fields that are read here has so long a number, but an app may keep one beside them.
    if len(digits) > 2 * _MAX_NUMBER_CHARACTERS:
        raise Unreadable("a number is too long")
    return float(digits)


def _constant(_name: str) -> object:
    raise Unreadable("not a number")


class Fields:
    """A JSON object whose fields must have the right type. A null counts as a missing field.

    Args:
        value: the value that was read.
        what: what the value should be, for the error.

    Raises:
        Unreadable: the value is not an object.
    """

    __slots__ = ("_fields",)

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise Unreadable(f"{what} is not a JSON object")
        self._fields: dict[str, object] = value

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text. Raises `Unreadable` if it has another type, or is missing without a default."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise Unreadable(f'"{name}" is not a text')
        return value

    def integer(self, name: str, default: int | None = None, *, lowest: int = 0) -> int:
        """Return a whole number. Raises `Unreadable` if it has another type, is out of range, or is missing without a
        default.
        """
        value = self._value(name, default)
        if type(value) is not int or not lowest <= value <= _MAX_INTEGER:  # True is an int to isinstance
            raise Unreadable(f'"{name}" is not a number of the right size')
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Return true or false. Raises `Unreadable` if it is anything else, or is missing without a default."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise Unreadable(f'"{name}" is neither true nor false')
        return value

    def values(self) -> list[object]:
        """Return the values of all fields, in the order of the file."""
        return list(self._fields.values())

    def array(self, name: str) -> list[object]:
        """Return an array of at most `MAX_ENTRIES`. Raises `Unreadable` if it is anything else or missing."""
        return array(self._value(name, None), f'"{name}"')

    def inner(self, name: str) -> Fields:
        """Return an object. Raises `Unreadable` if it is anything else or missing."""
        return Fields(self._value(name, None), f'"{name}"')

    def hexadecimal(self, name: str, *lengths: int) -> bytes:
        """Return the bytes of a hexadecimal text. Raises `Unreadable` if it is anything else or has another length."""
        text = self.text(name)
        if text.strip("0123456789abcdefABCDEF") or len(text) % 2 or len(text) // 2 not in lengths:
            raise Unreadable(f'"{name}" is not hexadecimal of the right length', hint=DAMAGED)
        return bytes.fromhex(text)

    def _value(self, name: str, default: object) -> object:
        value = self._fields.get(name)
        if value is None:
            value = default
        if value is None:
            raise Unreadable(f'"{name}" is missing')
        return value


def array(value: object, what: str) -> list[object]:
    """Check that a value is an array of at most `MAX_ENTRIES`, and return it.

    Raises:
        Unreadable: it is not.
    """
    if not isinstance(value, list):
        raise Unreadable(f"{what} is not a JSON array")
    if len(value) > MAX_ENTRIES:
        raise Unreadable(f"{what} has more than {MAX_ENTRIES} entries")
    return value
