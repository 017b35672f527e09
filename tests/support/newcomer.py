"""Somebody who enrols in a login: reads what the host shows, holds the phone in front of it, types."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pexpect

from tests.support.account import Person, Phone
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, record_of, recovery_codes_in, uri_in
from tests.support.hosts import STEP_S, WHO, Host
from tests.support.installation import Installation

ENROLS = "no soft token yet"
PASSWORD, CODE, NEW_CODE, ENTER, SHELL, SESSION, END = range(7)


def lines(installed: Installation, *options: str) -> str:
    """Write the two PAM lines."""
    ours = installed.line("enrol", *options)
    return ours + "account" + ours.removeprefix("auth")


class Arrival:
    """One login of somebody who is asked to enrol.

    Attributes:
        seen: what was asked, in order.
        entered_as: what `id -un` said in the session; empty when there was none.
        phone: the token, once its code was asked for.
    """

    def __init__(self, terminal: pexpect.spawn[str], record: io.StringIO) -> None:
        self.terminal = terminal
        self._record = record
        self.seen: list[str] = []
        self.entered_as = ""
        self.phone: Phone | None = None

    @property
    def screen(self) -> str:
        """All that stood on the terminal."""
        return self._record.getvalue()

    def __repr__(self) -> str:
        return f"<entered as {self.entered_as!r} after {self.seen}; screen: {self.screen!r}>"

    @property
    def phone_with_codes(self) -> Phone:
        """The token, with the recovery codes that have been shown."""
        return Phone(record_of(uri_in(self.screen), recovery_codes_in(self.screen)))

    def go_on(self, host: Host, person: Person, *codes: str, password: str, until: int = END) -> None:
        """Answer whatever is asked, up to a question.

        Args:
            codes: for the questions for a code of the new token; with none left, the right one.
        """
        left = list(codes)
        awaited: list[Any] = [
            r"[Pp]assword[^\r\n]*: ",
            "Verification code: ",
            re.escape(CODE_PROMPT),
            re.escape(ENTER_PROMPT),
            rf"{person.name}@[^\r\n]*\$ " if host.shell_has_prompt else "(?!)",
            r"session of ([\w-]+)\r\n",
            pexpect.EOF,
            r"Login incorrect\s+[^\r\n]*login: ",
        ]
        while True:
            found = self.terminal.expect(awaited)
            if found == PASSWORD:
                self._answer("password", password)
            elif found == CODE:
                self._answer("code", "000000")
            elif found == NEW_CODE:
                self.phone = Phone(record_of(uri_in(self.screen)))
                if until == NEW_CODE:
                    return
                self._answer("new code", left.pop(0) if left else self.phone.totp())
            elif found == ENTER:
                if until == ENTER:
                    return
                self.press_enter()
            elif found == SHELL:
                self.terminal.sendline(WHO)
            else:
                if found == SESSION:
                    assert isinstance(self.terminal.match, re.Match)
                    self.entered_as = self.terminal.match[1]
                return

    def press_enter(self) -> None:
        """Go on behind the recovery codes."""
        self._answer("enter", "")

    def _answer(self, asked: str, line: str) -> None:
        self.seen.append(asked)
        self.terminal.sendline(line)


@contextmanager
def arrival(
    host: Host, person: Person, *codes: str, password: str = "", until: int = END, locale: str = "C.UTF-8"
) -> Iterator[Arrival]:
    """Log in and enrol, and stay for the length of the `with` block."""
    record = io.StringIO()
    words = host.command(person)
    terminal = pexpect.spawn(
        words[0],
        words[1:],
        env={"PATH": os.environ["PATH"], "LC_ALL": locale, "TERM": "dumb"},
        encoding="utf-8",
        codec_errors="replace",
        timeout=STEP_S,
        dimensions=(60, 250),
    )
    terminal.delaybeforesend = None
    terminal.logfile_read = record
    made = Arrival(terminal, record)
    try:
        made.go_on(host, person, *codes, password=password or person.password, until=until)
        yield made
    finally:
        terminal.close(force=True)
