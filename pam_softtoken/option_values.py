"""Check the values of options: each function takes the text of one value, and returns the value. It raises `ValueError`
with what would be right. Imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_GRACE_S = 30 * 24 * 60 * 60
MAX_NODES, MAX_REALM_CHARACTERS, MAX_HOST_CHARACTERS = 9, 63, 253
_FLEET_FORM = "etcd://HOST:PORT,HOST:PORT,.../REALM"
_REALM_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-"
_HOST_CHARACTERS = f"{_REALM_CHARACTERS}:ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_UNIT_S = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}


def flag(text: str) -> bool:
    """Return whether a flag is set."""
    if text not in ("yes", "no"):
        raise ValueError("stands alone, or with =yes or =no")
    return text == "yes"


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return the function that takes whole numbers from `minimum` to `maximum`."""

    def check(text: str) -> int:
        plain = text.isascii() and text.isdecimal() and len(text) <= 6 and (text == "0" or text[0] != "0")
        if not plain or not minimum <= int(text) <= maximum:
            raise ValueError(f"takes a whole number from {minimum} to {maximum}")
        return int(text)

    return check


def duration(text: str) -> int:
    """Return a time in seconds."""
    if text == "0":
        return 0
    number, unit = text[:-1], text[-1:]
    plain = number.isascii() and number.isdecimal() and len(number) <= 7 and number[0] != "0"
    seconds = int(number) * _UNIT_S[unit] if plain and unit in _UNIT_S else 0
    if not 1 <= seconds <= MAX_GRACE_S:
        raise ValueError("takes 0, or a number and s, m, h or d, such as 8h, up to 30d")
    return seconds


def absolute_path(text: str) -> str:
    """Return an absolute path."""
    if not text.startswith("/") or not text.isprintable() or len(text) > 1024:
        raise ValueError("takes an absolute path")
    return text


def prompt(text: str) -> str:
    """Return a prompt."""
    if not 1 <= len(text) <= 128 or not text.isprintable() or text != text.strip():
        raise ValueError("takes 1 to 128 visible characters")
    return text


def names(text: str) -> str:
    """Return names of users, with one space between them."""
    found = text.split(" ")
    if not all(name and name.isprintable() and "," not in name for name in found) or len(text) > 1024:
        raise ValueError("takes names of users, with one space between them")
    return text


def store(text: str) -> str:
    """Return the path of a store, with its fields."""
    fields = [piece[:1] for piece in text.replace("%%", "").split("%")[1:]]
    if any(field not in ("u", "U", "h") for field in fields) or "%h" in text[1:] or "/../" in text + "/":
        raise ValueError("takes a path with %u (user), %U (uid) or, at its start, %h (home)")
    if not text.startswith(("/", "%h/")) or not text.isprintable() or len(text) > 1024:
        raise ValueError("takes an absolute path, or one that starts with %h/")
    if text.startswith("/") and not {"u", "U"} & set(fields):
        raise ValueError("needs %u or %U, or all users would share one token")
    return text


def fleet_parts(text: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """Return the nodes of a `fleet` option, each with its port, and the realm.

    >>> fleet_parts("etcd://a.example:2379,[2001:db8::1]:2379/office")
    ((('a.example', 2379), ('2001:db8::1', 2379)), 'office')

    Raises:
        ValueError: it is no such option.
    """
    nodes, slash, realm = text.removeprefix("etcd://").partition("/")
    if not text.startswith("etcd://") or not slash:
        raise ValueError(f"takes {_FLEET_FORM}")
    if not realm or len(realm) > MAX_REALM_CHARACTERS or realm[0] in ".-" or realm.strip(_REALM_CHARACTERS):
        raise ValueError("takes a realm of a-z, 0-9, dots and hyphens, up to 63, such as office")
    found = []
    for node in nodes.split(","):
        host, _, port = node.rpartition(":")
        if host.startswith("[") and host.endswith("]") and ":" in host:
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not host or len(host) > MAX_HOST_CHARACTERS or host.strip(_HOST_CHARACTERS) or host.startswith("-"):
            raise ValueError(f"takes {_FLEET_FORM}")
        found.append((host, whole_number(1, 65535)(port)))
    if len(found) > MAX_NODES:
        raise ValueError(f"takes at most {MAX_NODES} nodes")
    return tuple(found), realm


def fleet(text: str) -> str:
    """Return where a realm is. `fleet_parts` takes it apart."""
    fleet_parts(text)
    return text


def day_number(date: str) -> int:
    """Compute the number of days in the Gregorian calendar up to a date. The difference of two results is a distance in
    days.

    >>> day_number("2028-03-01") - day_number("2028-02-28")
    2
    """
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:])
    if month < 3:  # if the year starts in March, its leap day comes last
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day


def date(text: str) -> str:
    """Return a day, such as 2027-01-15."""
    digits = text[:4] + text[5:7] + text[8:]
    plain = len(text) == 10 and text[4] == text[7] == "-" and len(digits) == 8
    if not plain or not digits.isascii() or not digits.isdecimal() or not _is_in_calendar(text):
        raise ValueError("takes a day, such as 2027-01-15, from 2000-01-01 to 2999-12-31")
    return text


def _is_in_calendar(date: str) -> bool:
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:])
    if not (2000 <= year <= 2999 and 1 <= month <= 12 and day >= 1):
        return False
    following = f"{year}-{month + 1:02}-01" if month < 12 else f"{year + 1}-01-01"
    return day_number(date) < day_number(following)
