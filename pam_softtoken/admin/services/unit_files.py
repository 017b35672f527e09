"""Read settings of systemd's units from their files, as far as this project needs them. systemd itself need not run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
         "/lib/systemd/system")  # fmt: skip
"""Where units are, the most important place first. Source: systemd.unit(5)."""
_NAMES = {"radiusd": "freeradius"}
"""PAM services whose unit has another name."""
TextOf = Callable[[str], str | None]
"""Returns the text of a file, or None."""


def units_of(service: str) -> tuple[str, str]:
    """Return the names of the units that a PAM service may belong to."""
    name = _NAMES.get(service, service)
    return f"{name}.service", f"{name}@.service"


def user_of(unit: str, text_of: TextOf) -> str | None:
    """Return the user that a unit runs as.

    Returns:
        The value of `User=`; empty for root, or for a user that only systemd knows. None if there is no unit.
    """
    values = values_of(unit, "User", text_of)
    if values is None:
        return None
    user = values[-1] if values else ""
    return "" if "%" in user else user


def words_of(unit: str, name: str, text_of: TextOf) -> list[str] | None:
    """Return the words of a setting that is a list, which an empty value empties. None if there is no unit."""
    values = values_of(unit, name, text_of)
    if values is None:
        return None
    words: list[str] = []
    for value in values:
        words = [*words, *value.split()] if value else []
    return words


def values_of(unit: str, name: str, text_of: TextOf) -> list[str] | None:
    """Return each value of a setting in `[Service]`, in the order in which systemd reads them.

    Args:
        unit: its name.
        name: of the setting.
        text_of: reads a file.

    Returns:
        The values. None if there is no unit.
    """
    text = next((text for each in UNITS if (text := text_of(f"{each}/{unit}")) is not None), None)
    if text is None:
        return None
    drop_ins: dict[str, str] = {}
    for directory in reversed(UNITS):
        with contextlib.suppress(OSError):
            names = [each for each in os.listdir(f"{directory}/{unit}.d") if each.endswith(".conf")]
            drop_ins.update({each: f"{directory}/{unit}.d/{each}" for each in names})
    texts = [text, *(text_of(path) or "" for _, path in sorted(drop_ins.items()))]
    return [value for each in texts for value in _values_in(each, name)]


def text_of_file(path: str) -> str | None:
    """Return the text of a file of root's; None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _values_in(text: str, wanted: str) -> Iterator[str]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        name, sign, value = line.partition("=")
        if section == "[Service]" and sign and name.strip() == wanted:
            yield value.strip()
