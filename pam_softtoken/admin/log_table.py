"""`log`: what became of logins, as a table: from systemd's journal, or from the files of the system log."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pam_softtoken import log, terminal, user_lookup
from pam_softtoken.admin import duration, person, table
from pam_softtoken.admin.log_lines import FIELDS, Entry, read_journal_entry, read_line
from pam_softtoken.command import Command
from pam_softtoken.errors import AdministrationFailed
from pam_softtoken.inventory import utc

HEADER = ("time", "service", *FIELDS)
JOURNALS = ("/run/log/journal", "/var/log/journal")
FILES = ("/var/log/auth.log", "/var/log/secure")
MAX_LINE_CHARACTERS = 8192
_AUTHPRIV = 10


def _show(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    person.require_root("log")
    since = duration.moment("--since", options.since, time.time())
    user = log.escape(options.user) if options.user is not None else None
    entries, others = [], 0
    for entry in _entries(options.file, since):
        if entry.when < since or (user is not None and entry.fields.get("user") != user):
            continue
        if entry.uid not in (None, 0) and not options.all:
            others += 1
            continue
        entries.append(entry)
    entries.sort(key=lambda entry: entry.when)
    if options.json:
        screen.show(json.dumps({"entries": [_record_of(entry) for entry in entries]}))
    elif entries:
        table.show(screen, [HEADER, *(_row(entry) for entry in entries)])
    else:
        screen.tell("There is nothing in the log about that.")
    if others:
        lines = "1 line is" if others == 1 else f"{others} lines are"
        screen.tell(f"{lines} left out that programs without root wrote, which anybody can do; --all shows them.")


def _row(entry: Entry) -> tuple[str, ...]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.when))
    fields = (entry.fields.get(name) or "-" for name in FIELDS[:-1])
    # A service may have any name; the rest was escaped when it was written, and read back as strictly.
    return when, terminal.visible(entry.service), *fields, entry.fields.get("detail", "")


def _record_of(entry: Entry) -> dict[str, object]:
    fields = {name: entry.fields.get(name) for name in FIELDS}
    return {"time": utc(int(entry.when)), "service": entry.service, **fields, "written_by_uid": entry.uid}


def _entries(files: list[str], since: float) -> Iterator[Entry]:
    if files:
        for name in files:
            yield from _of_journal(since, f"--file={name}") if name.endswith(".journal") else _of_file(Path(name))
    elif shutil.which("journalctl") and any(_has_content(directory) for directory in JOURNALS):
        yield from _of_journal(since)
    else:
        present = [Path(name) for name in FILES if Path(name).exists()]
        if not present:
            raise AdministrationFailed(
                f"there is no journal, and no {' or '.join(FILES)}", hint="--file names the file that the log goes to"
            )
        for file in present:
            for each in _with_rotated(file, since):
                yield from _of_file(each)


def _has_content(directory: str) -> bool:
    try:
        return bool(os.listdir(directory))
    except OSError:
        return False


def _with_rotated(file: Path, since: float) -> list[Path]:
    """Give a log and its older parts, oldest first, but those that ended before."""
    parts = [each for each in file.parent.glob(file.name + "[.-]*") if each.is_file()]
    recent = [each for each in [file, *parts] if each.stat().st_mtime >= since]
    return sorted(recent, key=lambda each: each.stat().st_mtime)


def _of_file(file: Path) -> Iterator[Entry]:
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        written_by = file.stat().st_mtime
        with opener(file, "rt", encoding="utf-8", errors="backslashreplace", newline="\n") as text:
            while line := text.readline(MAX_LINE_CHARACTERS):
                terminal.checkpoint()
                entry = read_line(line.rstrip("\n"), written_by=written_by) if line.endswith("\n") else None
                while line and not line.endswith("\n"):  # its rest must not pass for a line of its own
                    line = text.readline(MAX_LINE_CHARACTERS)
                if entry is not None:
                    yield entry
    except (OSError, EOFError) as error:
        raise AdministrationFailed(
            f'cannot read "{file}": {getattr(error, "strerror", None) or error}', hint="--file names other files"
        ) from None


def _of_journal(since: float, *more: str) -> Iterator[Entry]:
    options = ("--output=json", "--no-pager", "--quiet", f"--since=@{int(since)}", f"SYSLOG_FACILITY={_AUTHPRIV}")
    with tempfile.TemporaryFile() as said:
        try:
            journal = subprocess.Popen(  # noqa: S603 - no shell, and nothing of it but --file is from outside
                [shutil.which("journalctl") or "journalctl", *more, *options], stdout=subprocess.PIPE, stderr=said
            )
        except OSError as error:
            raise AdministrationFailed(f"cannot run journalctl: {error.strerror}", hint="apt install systemd") from None
        with journal:
            for line in journal.stdout or ():
                terminal.checkpoint()
                entry = read_journal_entry(json.loads(line))
                if entry is not None:
                    yield entry
        if journal.returncode != 0:
            said.seek(0)
            why = said.read(1024).decode(errors="backslashreplace").strip()
            raise AdministrationFailed(f"journalctl failed: {why}", hint="--file names files to read instead")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show what became of logins that were asked for a code, and what administrators did, oldest first: from "
        "systemd's journal, or where there is none from /var/log/auth.log and its older parts. In a file anybody who "
        "can write to the system log can have put a line; of the journal's only those are shown that root wrote."
    )
    parser.add_argument("--user", metavar="USER", type=user_lookup.canonical_name, help="only what is about this user")
    parser.add_argument(
        "--since", metavar="TIME", default="7d",
        help='1h, 2d, today, yesterday, 2026-11-20 or "2026-11-20 10:00" (default: 7d)',
    )  # fmt: skip
    parser.add_argument(
        "--file", metavar="FILE", action="append", default=[],
        help="read this file instead, as often as it is given: text, .gz or .journal",
    )  # fmt: skip
    parser.add_argument(
        "--all", action="store_true", help="lines, too, that programs without root wrote, such as screen lockers"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, for programs")


LOG = Command("log", "show what became of logins, as a table", _add_arguments, _show)
