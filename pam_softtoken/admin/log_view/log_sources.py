"""Read log lines from systemd's journal or from log files, with only a small part in memory at a time."""

from __future__ import annotations

import glob
import gzip
import heapq
import io
import json
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, BinaryIO

from pam_softtoken import platform_facts
from pam_softtoken.account import entries, user_path
from pam_softtoken.admin.common import child
from pam_softtoken.admin.log_view.log_lines import (
    SUPPRESSED,
    SUPPRESSION,
    Entry,
    has_no_year,
    read_journal_entry,
    read_line,
)
from pam_softtoken.program_errors import AdministrationFailed

JOURNALS = ("/run/log/journal", "/var/log/journal")
FILES = ("/var/log/auth.log", "/var/log/secure")
MAX_LINE_BYTES = 64 * 1024
_AUTHPRIV = 10
_OURS = b"softtoken"
_WANTED = ("MESSAGE", "MESSAGE_ID", "SYSLOG_IDENTIFIER", "_UID", "_TRANSPORT")
_OTHER_FILES = "--file names other files"


@contextmanager
def opened(files: Sequence[str], since: float) -> Iterator[Iterator[Entry]]:
    """Open a log for the length of the block.

    Args:
        files: text, `.gz` or `.journal`; if there are none, this host's journal, or else its log files.
        since: Unix seconds; older entries may be left out.

    Raises:
        AdministrationFailed: it cannot be read, or not to its end.
    """
    with ExitStack() as stack:
        if files:
            streams = [
                _journal(stack, since, os.path.abspath(name)) if name.endswith(".journal") else _file(stack, name)
                for name in files
            ]
        elif shutil.which("journalctl") and any(map(entries.names_in, JOURNALS)):
            streams = [_journal(stack, since)]
        else:
            streams = [_file(stack, name) for name in _files_of_host(since)]
        yield heapq.merge(*streams, key=lambda entry: entry.when)


def _files_of_host(since: float) -> list[str]:
    """List the log files, including rotated ones that do not end before `since`."""
    present = [name for name in FILES if os.path.exists(name)]
    if not present:
        raise AdministrationFailed(
            f"there is no journal, and no {' or '.join(FILES)}", hint="--file names the file that the log goes to"
        )
    parts = [part for name in present for part in (name, *glob.glob(f"{name}[.-]*"))]
    return [part for part in parts if _is_file_since(part, since)]


def _is_file_since(path: str, since: float) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False  # rotated away since it was listed
    return stat.S_ISREG(status.st_mode) and status.st_mtime >= since


def _file(stack: ExitStack, name: str) -> Iterator[Entry]:
    with _readable(name):
        raw = stack.enter_context(open(user_path.open_regular(name), "rb"))  # noqa: SIM115
        changed = os.fstat(raw.fileno()).st_mtime
    unpacked = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if name.endswith(".gz") else raw

    def entries() -> Iterator[Entry]:
        undated = 0
        with _readable(name):
            for line in _lines(unpacked):
                if _OURS in line:  # most lines are not ours; this test is quicker than a full one
                    text = line.decode("utf-8", "backslashreplace")
                    entry = read_line(text)
                    undated += has_no_year(text)
                    if entry is not None:
                        yield entry
        if undated:
            detail = f"{undated} without a year in the time, see THE LOG in softtoken-admin(8)"
            yield Entry(changed, name, {"result": SUPPRESSED, "detail": detail}, None)

    return entries()


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise AdministrationFailed(f'cannot read "{name}": {why}', hint=_OTHER_FILES) from None


def _lines(stream: BinaryIO | IO[bytes]) -> Iterator[bytes]:
    """Yield whole lines without their newlines. A line that is too long is left out completely."""
    while line := stream.readline(MAX_LINE_BYTES):
        if line.endswith(b"\n"):
            yield line[:-1]
        while line and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE_BYTES)


def _journal(stack: ExitStack, since: float, *files: str) -> Iterator[Entry]:
    said = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    command = (
        *(shutil.which("journalctl") or "journalctl", "--output=json", "--no-pager", "--quiet"),
        *(f"--file={each}" for each in files),
        *(f"--output-fields={','.join(_WANTED)}", f"--since=@{int(since)}"),
        *(f"SYSLOG_FACILITY={_AUTHPRIV}", "+", f"MESSAGE_ID={SUPPRESSION}"),
    )
    try:
        process = stack.enter_context(child.running(command, errors=said))
    except OSError as error:
        raise AdministrationFailed(
            f"cannot run journalctl: {error.strerror}", hint=platform_facts.install("systemd")
        ) from None

    def entries() -> Iterator[Entry]:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        for line in _lines(process.stdout):
            entry = read_journal_entry(json.loads(line))
            if entry is not None:
                yield entry
        if process.wait() != 0:
            said.seek(0)
            why = said.read(1024).decode(errors="backslashreplace").strip()
            raise AdministrationFailed(f"journalctl failed: {why}", hint="--file names files to read instead")

    return entries()
