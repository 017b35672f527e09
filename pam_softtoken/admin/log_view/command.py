"""Show the results of logins as a table that starts at once and needs no more memory for a longer log."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pam_softtoken import log, option_values
from pam_softtoken.account import user_lookup
from pam_softtoken.admin.common import duration, person
from pam_softtoken.admin.log_view import log_sources
from pam_softtoken.admin.log_view.log_lines import SUPPRESSED, Entry
from pam_softtoken.enroll.token_list import utc
from pam_softtoken.program_errors import AdministrationFailed, OutputClosed
from pam_softtoken.ui import table, terminal
from pam_softtoken.ui.command_line import Command

COLUMNS = tuple(name for name in log.FIELDS if name != "trial")
HEADER = ("time", "service", *COLUMNS)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The options of `log`."""

    user: str | None
    since: str
    file: tuple[str, ...]
    all: bool
    json: bool


class _Selection:
    """The wanted entries, and how many were left out for each reason.

    Args:
        user: only lines about this user, escaped as in the log.
        since: Unix seconds.
        everything: include trials, and lines written by users other than root.
    """

    def __init__(self, *, user: str | None, since: float, everything: bool) -> None:
        self._user = user
        self._since = since
        self._everything = everything
        self.taken = self.from_files = self.by_others = self.trials = 0

    def of(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.when < self._since or not self._is_about_user(entry):
                continue
            if entry.writer_uid not in (None, 0) and not self._everything:
                self.by_others += 1
            elif entry.is_trial and not self._everything:
                self.trials += 1
            else:
                self.taken += 1
                self.from_files += entry.writer_uid is None
                yield entry

    def _is_about_user(self, entry: Entry) -> bool:
        # Missing lines can be about any user.
        return self._user in (None, entry.fields.get("user")) or entry.fields.get("result") == SUPPRESSED

    def remarks(self) -> Iterator[str]:
        if not self.taken:
            yield "There is nothing in the log about that."
        if self.from_files:
            yield "A log file does not say which user wrote a line: any local user can have added one."
        if self.by_others:
            lines = "1 line is" if self.by_others == 1 else f"{self.by_others} lines are"
            yield f"{lines} left out that programs without root wrote, which anybody can do; --all shows them."
        if self.trials:
            lines = "1 line is" if self.trials == 1 else f"{self.trials} lines are"
            source = "comes from a trial" if self.trials == 1 else "come from trials"
            yield f"{lines} left out that {source} by enable or doctor; --all shows them."


def _show(screen: terminal.Terminal, options: LogOptions) -> None:
    person.require_root("log")
    since = duration.moment("--since", options.since, time.time())
    user = log.escape(options.user) if options.user is not None else None
    selection = _Selection(user=user, since=since, everything=options.all)
    # Nothing is changed, so a signal may come at any time; a closed pager is no error.
    with contextlib.suppress(OutputClosed), terminal.interruptible():
        with log_sources.opened(options.file, since) as entries:
            if options.json:
                _show_json(screen, selection.of(entries))
            else:
                table.stream(screen, HEADER, (_row(entry) for entry in selection.of(entries)))
        for remark in selection.remarks():
            screen.tell(remark)
        if not options.json and (realm := _realm()):
            screen.tell(f"This host is in the realm {realm}. Each host has its own log.")


def _realm() -> str:
    """Return the realm of this host; empty if it has none, or its settings are wrong: the log shows that anyway."""
    with contextlib.suppress(AdministrationFailed):
        settings = person.settings_of(None)
        return option_values.fleet_parts(settings.fleet)[1] if settings.fleet else ""
    return ""


def _show_json(screen: terminal.Terminal, entries: Iterator[Entry]) -> None:
    """Print one JSON object for each entry, one a line, as they come."""
    before = '{"entries": ['
    for entry in entries:
        screen.show(before + json.dumps(_record_of(entry)))
        before = ", "
    screen.show("]}" if before == ", " else before + "]}")


def _row(entry: Entry) -> tuple[str, ...]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.when))
    fields = (entry.fields.get(name) or "-" for name in COLUMNS[:-1])
    # A service may have any name. The other fields were escaped when written, and are read back as strictly.
    return when, terminal.visible(entry.service), *fields, entry.fields.get("detail", "")


def _record_of(entry: Entry) -> dict[str, object]:
    fields = {name: entry.fields.get(name) for name in COLUMNS}
    uid = fields["uid"]
    return {
        "time": utc(int(entry.when)),
        "service": entry.service,
        **fields,
        "uid": int(uid) if uid is not None and uid.isdecimal() else None,
        "trial": entry.is_trial,
        "written_by_uid": entry.writer_uid,
    }


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show what became of logins that were asked for a code, of sudo's commands that were to be signed, and what "
        "administrators did, oldest first: from systemd's journal, or where there is none from /var/log/auth.log and "
        "its older parts. A line in a file can come from anybody who can write to the system log. Of the journal, only "
        "lines that root wrote are shown. The column uid is the user who ran su or sudo. The detail has the command "
        "that was signed or refused."
    )
    parser.add_argument("--user", metavar="USER", type=user_lookup.canonical_name, help="only lines about this user")
    parser.add_argument(
        "--since", metavar="TIME", default="7d",
        help='1h, 2d, today, yesterday, 2026-11-20 or "2026-11-20 10:00" (default: 7d)',
    )  # fmt: skip
    parser.add_argument(
        "--file", metavar="FILE", action="append", default=[],
        help="read this file instead: text, .gz or .journal; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--all", action="store_true",
        help="also lines that programs without root wrote, such as screen lockers, and trials by enable and doctor",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, for programs")


LOG = Command("log", "show what became of logins and of signed commands, as a table", _add_arguments, LogOptions, _show)
