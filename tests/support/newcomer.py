"""A user that enrols in a login: they read what the host shows, scan the code with a phone, and type.

They are at a real host on a terminal (`arrival`), or at our own PAM application (`Talk`). The service of the latter is
in /etc/pam.d of its own mount namespace, because the module looks for its lines there.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pexpect

from tests.support.account import Person, Phone
from tests.support.client import ECHO_OFF, ECHO_ON, Outcome, Service
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, record_of, recovery_codes_in, uri_in
from tests.support.hosts import STEP_S, WHO, Host
from tests.support.installation import Installation
from tests.support.leak import keep_answer

ENROLS = "no soft token yet"
PASSWORD, CODE, NEW_CODE, ENTER, SHELL, SESSION, END = range(7)


def lines(installed: Installation, *options: str) -> str:
    """Return the two PAM lines."""
    ours = installed.line("enrol", *options)
    return ours + "account" + ours.removeprefix("auth")


class Arrival:
    """One login of a user that is asked to enrol.

    Attributes:
        seen: the questions, in order.
        entered_as: the output of `id -un` in the session; empty if there was none.
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
        """Return everything that the terminal showed."""
        return self._record.getvalue()

    def __repr__(self) -> str:
        return f"<entered as {self.entered_as!r} after {self.seen}; screen: {self.screen!r}>"

    @property
    def phone_with_codes(self) -> Phone:
        """Return the token, with the recovery codes that have been shown."""
        return Phone(record_of(uri_in(self.screen), recovery_codes_in(self.screen)))

    def go_on(self, host: Host, person: Person, *codes: str, password: str, until: int = END) -> None:
        """Answer every question, up to a given one.

        Args:
            codes: answers to prompts for a code of the new token. With none left, the right code is typed.
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
        """Press Enter after the recovery codes."""
        self._answer("enter", "")

    def _answer(self, asked: str, line: str) -> None:
        self.seen.append(asked)
        self.terminal.sendline(line)


@contextmanager
def arrival(
    host: Host, person: Person, *codes: str, password: str = "", until: int = END, locale: str = "C.UTF-8"
) -> Iterator[Arrival]:
    """Log in and enrol, and stay for the length of the `with` block."""
    with host.terminal(person, rows=60, locale=locale) as (terminal, record):
        made = Arrival(terminal, record)
        made.go_on(host, person, *codes, password=password or person.password, until=until)
        yield made


LOGIN = "/usr/bin/login"
"""A program in which users can enrol. Our own application is mounted over it, and counts as that program."""
_IN_ITS_DIRECTORY = 'mount --bind "$0" /etc/pam.d && mount --bind "$1" "$2" && shift 2 && exec "$@"'


def command_in_its_directory(service: Service, person: Person | str, *options: str) -> list[str]:
    """Return the client's command line, with its services in the place of /etc/pam.d, and itself in that of login."""
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _IN_ITS_DIRECTORY, str(service.directory)]
    client, *words = service.command(person, "--account", *options)
    return [*alone, client, LOGIN, LOGIN, *words]


def in_its_directory(service: Service, person: Person, *answers: str, options: Sequence[str] = ()) -> Outcome:
    """Run one attempt with answers that are known beforehand."""
    for answer in answers:
        keep_answer(answer)
    script = "".join(f"={answer}\n" for answer in answers)
    command = command_in_its_directory(service, person, *options)
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True, timeout=300)
    return Outcome(done.stdout)


class Talk:
    """One login at our own application, question by question. Use it in a `with` block.

    Args:
        service: its service.
        person: the user that logs in.
        around: words before the client's own command line, such as a tracer's.
        options: of the client.
        typed: another spelling of the name.
        inside: words before the whole command line, which lead into a mount namespace.
    """

    def __init__(
        self,
        service: Service,
        person: Person,
        *,
        around: Sequence[str] = (),
        options: Sequence[str] = (),
        typed: str = "",
        inside: Sequence[str] = (),
    ) -> None:
        command = [*inside, *command_in_its_directory(service, typed or person, "--tell", *options)]
        place = command.index(LOGIN) + 1
        command[place:place] = around
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._person = person
        self.shown: list[str] = []
        self.outcome: Outcome | None = None

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *details: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=STEP_S)

    @property
    def pid(self) -> int:
        """Return the application's process id."""
        return self._process.pid

    @property
    def text(self) -> str:
        """Return everything that was shown."""
        return "\n".join(self.shown)

    @property
    def phone(self) -> Phone:
        """Return the token, with the recovery codes that have been shown so far."""
        return Phone(record_of(uri_in(self.text), recovery_codes_in(self.text)))

    def next_question(self) -> str:
        """Wait for a question. Return "" if there is no more; `outcome` has the result then."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            record = json.loads(line)
            if "result" in record:
                self.outcome = Outcome(line)
                break
            self.shown.append(record["text"])
            if record["style"] in (ECHO_OFF, ECHO_ON):
                return str(record["text"])
        self._process.wait(STEP_S)
        return ""

    def answer(self, text: str) -> None:
        """Answer the question."""
        keep_answer(text)
        assert self._process.stdin is not None
        self._process.stdin.write(f"={text}\n")
        self._process.stdin.flush()

    def go_on(self, *, until: str = "", before: Callable[[str], None] | None = None, password: str = "") -> Talk:
        """Answer every question correctly.

        Args:
            until: stop at this question.
            before: called with each question before it is answered.
            password: another one than the right one.
        """
        while question := self.next_question():
            if question == until:
                break
            if before is not None:
                before(question)
            if question == "Password: ":
                self.answer(password or self._person.password)
            elif question == CODE_PROMPT:
                self.answer(self.phone.totp())
            else:
                self.answer("" if question == ENTER_PROMPT else "000000")
        return self

    @property
    def let_in(self) -> bool:
        """Return whether both management groups have accepted."""
        return self.outcome is not None and (self.outcome.result, self.outcome.account) == (0, 0)
