"""`softtoken-enroll` as a person or a script runs it: in a terminal or with pipes, as a user or as root."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import tempfile
import termios
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pexpect
from pexpect import fdpexpect

from tests.support.account import Person, Phone

TIMEOUT_S = 60
CODE_PROMPT = "Code that the app shows: "
OTHERS_CODE_PROMPT = "Code that the app of {} shows: "
TOKEN_PROMPT = "Code of one of your tokens: "
CHECK_PROMPT = "Code that the app shows now: "
ENTER_PROMPT = "Press Enter when you have them: "
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
_ERROR, _HINT = "softtoken-enroll: error: ", "softtoken-enroll: hint: "


class Mistake:
    """What the program says when it does not do what was asked.

    Args:
        said: all that it wrote to stderr.

    Raises:
        AssertionError: it is not one `error:` line and one `hint:` line after it in the form that we have settled.
    """

    def __init__(self, said: str) -> None:
        assert "Traceback" not in said, said
        lines = said.replace("\r\n", "\n").rstrip("\n").split("\n")
        assert [line.startswith(_ERROR) for line in lines].count(True) == 1, said
        assert [line.startswith(_HINT) for line in lines].count(True) == 1, said
        assert lines[-1].startswith(_HINT), said
        assert lines[-2].startswith(_ERROR), said
        self.error, self.hint = lines[-2].removeprefix(_ERROR), lines[-1].removeprefix(_HINT)
        for text in (self.error, self.hint):
            assert text, said
            assert text == text.strip(), said
            assert not text[:2].istitle(), f"starts with a capital: {text}"
            assert not text.endswith("."), f"ends with a stop: {text}"
        # A person must be able to select a line as a whole.
        self.before = "\n".join(lines[:-2])


class Finished:
    """A run of the program that has ended.

    Attributes:
        status: exit status, or minus the number of the signal that killed it.
        stdout, stderr: what it wrote.
    """

    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def refused(self, status: int = 1) -> Mistake:
        """Expect that it refused, with nothing on stdout and nothing but the mistake on stderr."""
        mistake = Mistake(self.stderr)
        assert self.status == status, self.stderr
        assert self.stdout == ""
        assert mistake.before == ""
        return mistake


def record_of(uri: str, recovery_codes: Sequence[str] = ()) -> dict[str, object]:
    """Read a Key URI as an app does: what it leaves out is SHA1, 6 digits and 30 s."""
    parts = urllib.parse.urlsplit(uri)
    assert parts.scheme == "otpauth"
    fields = dict(urllib.parse.parse_qsl(parts.query, strict_parsing=True))
    return {
        "type": parts.netloc,
        "key": fields["secret"],
        "algorithm": fields.get("algorithm", "SHA1"),
        "digits": int(fields.get("digits", 6)),
        "period": int(fields.get("period", 30)) if parts.netloc == "totp" else None,
        "counter": int(fields["counter"]) if "counter" in fields else None,
        "recovery_codes": list(recovery_codes),
    }


def uri_in(text: str) -> str:
    """Find the one Key URI that a text shows."""
    (uri,) = re.findall(r"^URI:  (otpauth://\S+)\r?$", text, re.MULTILINE)
    return str(uri)


def recovery_codes_in(text: str) -> list[str]:
    """Find the recovery codes that a text shows."""
    return re.findall(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}\b", text)


class Dialogue:
    """The program in a terminal of its own, and a person in front of it. Use it in a `with` block.

    Args:
        command: what runs there.
        person: who runs it; None is root.
        piped: descriptors (1, 2) that are not the terminal but go to a file each; see `piped_stdout`.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        person: Person | None,
        environment: Mapping[str, str],
        columns: int = 80,
        umask: int = 0o022,
        cwd: Path | str = "/",
        piped: Sequence[int] = (),
    ) -> None:
        terminal, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self._files: dict[int, BinaryIO] = {number: tempfile.TemporaryFile() for number in piped}  # noqa: SIM115

        # Without a session and a terminal of its own, neither Ctrl-C nor hanging up would reach the program.
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            ["setsid", "--ctty", *(str(word) for word in command)],
            stdin=inside,
            stdout=self._files.get(1, inside),
            stderr=self._files.get(2, inside),
            env=dict(environment),
            cwd=cwd,
            umask=umask,
            **identity(person),  # type: ignore[call-overload]
        )
        os.close(inside)
        self._log = io.StringIO()
        self._terminal = fdpexpect.fdspawn(terminal, timeout=TIMEOUT_S, encoding="utf-8", codec_errors="replace")
        self._terminal.logfile_read = self._log
        self.pid = int(self._process.pid)

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, *details: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(TIMEOUT_S)
        with contextlib.suppress(OSError):
            self._terminal.close()
        for file in self._files.values():
            file.close()

    @property
    def transcript(self) -> str:
        """All that the terminal has shown so far, what was typed among it."""
        return self._log.getvalue()

    def expect(self, text: str) -> str:
        """Wait until the terminal shows a text.

        Returns:
            What it has shown since the last time, without that text.
        """
        try:
            self._terminal.expect_exact(text)
        except (pexpect.EOF, pexpect.TIMEOUT):
            raise AssertionError(f"no {text!r} in {self.transcript!r}") from None
        return str(self._terminal.before)

    def expect_or_end(self, text: str) -> bool:
        """Wait until the terminal shows a text or the program ends, and tell whether it was the text."""
        return int(self._terminal.expect_exact([text, pexpect.EOF])) == 0

    def expect_any(self, *texts: str) -> str:
        """Wait until the terminal shows one of some texts, and tell which; "" when the program ends."""
        found = int(self._terminal.expect_exact([*texts, pexpect.EOF]))
        return [*texts, ""][found]

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        self._terminal.send(line + "\r")

    def type_bytes(self, line: bytes) -> None:
        """Type a line whose bytes are no text, and Enter."""
        os.write(self._terminal.child_fd, line + b"\r")

    def press_control(self, letter: str) -> None:
        """Hold Ctrl and press a letter."""
        self._terminal.send(chr(ord(letter) & 0x1F))

    def hang_up(self) -> None:
        """Close the terminal's window."""
        self._terminal.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        self._process.send_signal(number)

    def finish(self) -> int:
        """Wait for the program's end and give its status."""
        if self._terminal.isalive():
            try:
                self._terminal.expect(pexpect.EOF)
            except pexpect.TIMEOUT:
                raise AssertionError(f"it does not end: {self.transcript!r}") from None
        return self._process.wait(TIMEOUT_S)

    def refused(self) -> Mistake:
        """Expect that the program ends with status 1 and says why."""
        status = self.finish()
        mistake = Mistake(self.transcript)
        assert status == 1, self.transcript
        return mistake

    def file(self, number: int) -> str:
        """Give what went to a piped descriptor; after the end."""
        file = self._files[number]
        file.seek(0)
        return file.read().decode()

    def phone(self) -> Phone:
        """Scan: take the token from the Key URI, and the recovery codes as far as they have been shown."""
        return Phone(record_of(uri_in(self.transcript), recovery_codes_in(self.transcript)))

    def confirm(self, *, prompt: str = CODE_PROMPT) -> Phone:
        """Go through the whole dialogue as somebody who does everything right."""
        self.expect(prompt)
        return self.confirm_from_here()

    def confirm_from_here(self) -> Phone:
        """Go through the rest of the dialogue, from the prompt for the code on."""
        phone = self.phone()
        self.type(phone.hotp() if phone.record["type"] == "hotp" else phone.totp())
        self.expect(ENTER_PROMPT)
        codes = recovery_codes_in(self.transcript)
        self.type("")
        assert self.finish() == 0, self.transcript
        return Phone({**phone.record, "counter": phone.counter, "recovery_codes": codes})


def identity(person: Person | None) -> dict[str, object]:
    """Say to `subprocess` who runs the program."""
    return {} if person is None else {"user": person.uid, "group": person.gid, "extra_groups": []}


class Enroller:
    """The program.

    Args:
        program: its file, or the words before its own arguments.
    """

    def __init__(self, *program: str | Path) -> None:
        self.program = program

    def after(self, *words: str | Path) -> Enroller:
        """The same program, started by another one."""
        return Enroller(*words, *self.program)

    def run(
        self,
        *options: str | Path,
        person: Person | None = None,
        typed: bytes = b"",
        environment: Mapping[str, str] = ENVIRONMENT,
        umask: int = 0o022,
        cwd: Path | str = "/",
    ) -> Finished:
        """Run it with pipes, as a script does.

        Args:
            person: who runs it; None is root.
            typed: its standard input.
        """
        done = subprocess.run(
            [str(word) for word in (*self.program, *options)],
            input=typed,
            capture_output=True,
            check=False,
            env=dict(environment),
            umask=umask,
            cwd=cwd,
            timeout=TIMEOUT_S,
            **identity(person),  # type: ignore[call-overload]
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(
        self,
        *options: str | Path,
        person: Person | None = None,
        environment: Mapping[str, str] = ENVIRONMENT,
        columns: int = 80,
        umask: int = 0o022,
        cwd: Path | str = "/",
        piped: Sequence[int] = (),
    ) -> Dialogue:
        """Start it in a terminal."""
        return Dialogue(
            (*self.program, *options),
            person=person,
            environment=environment,
            columns=columns,
            umask=umask,
            cwd=cwd,
            piped=piped,
        )
