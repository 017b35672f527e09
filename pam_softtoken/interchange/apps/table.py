"""Read CSV files of password managers. Does no I/O. The first line has the names of the columns."""

from __future__ import annotations

import csv
import io

from pam_softtoken.interchange.app_document import MAX_ENTRIES
from pam_softtoken.interchange.apps import bitwarden, keepassxc
from pam_softtoken.interchange.record import Harvest
from pam_softtoken.program_errors import Unreadable


def is_one(data: bytes) -> bool:
    """Check whether data is a CSV file of an app that is known here, by its first line."""
    columns = _columns(data)
    return bitwarden.is_table(columns) or keepassxc.is_table(columns)


def read(data: bytes, *, now: int) -> Harvest:
    """Read a CSV file.

    Args:
        data: the content, for which `is_one` is true.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    columns = _columns(data)
    rows: list[dict[str, str]] = []
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        next(lines)
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(columns):
                raise Unreadable(f"line {lines.line_num}: {len(cells)} columns, and the first line has {len(columns)}")
            if len(rows) == MAX_ENTRIES:
                raise Unreadable(f"the CSV file has more than {MAX_ENTRIES} lines")
            rows.append(dict(zip(columns, cells, strict=True)))
    except UnicodeDecodeError:
        raise Unreadable("the CSV file is not UTF-8 text") from None
    except csv.Error:
        raise Unreadable(f"line {lines.line_num}: not CSV") from None
    if bitwarden.is_table(columns):
        return bitwarden.read_table(rows, now=now)
    return keepassxc.read_table(rows, now=now)


def _columns(data: bytes) -> list[str]:
    first = data[:4096].decode("utf-8-sig", "replace").partition("\n")[0].rstrip("\r")
    try:
        columns = next(csv.reader([first], strict=True), [])
    except csv.Error:
        return []
    return columns if len(set(columns)) == len(columns) else []
