"""Run `softtoken-enroll` as a user or a script does: in a terminal or with pipes, as a user or as root."""

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
TOKEN_PROMPT = "Code of one of your tokens, or a recovery code: "
CHECK_PROMPT = "Code that the app shows now: "
ENTER_PROMPT = "Press Enter when you have them: "
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
_ERROR, _HINT = "softtoken-enroll: error: ", "softtoken-enroll: hint: "


class Mistake:
    """The program's output for a failure.

    Args:
        said: everything that it wrote to stderr.

    Raises:
        AssertionError: it is not one `error:` line followed by one `hint:` line in the agreed form.
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
        # A user must be able to select the whole line.
        self.before = "\n".join(lines[:-2])


class Finished:
    """A run of the program that has ended.

    Attributes:
        status: exit status, or minus the number of the signal that killed it.
        stdout, stderr: its output.
    """

    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def refused(self, status: int = 1) -> Mistake:
        """Check that it refused, with nothing on stdout and nothing but the error on stderr."""
        mistake = Mistake(self.stderr)
        assert self.status == status, self.stderr
        assert self.stdout == ""
        assert mistake.before == ""
        return mistake


def record_of(uri: str, recovery_codes: Sequence[str] = ()) -> dict[str, object]:
    """Read a Key URI as an app does. Missing parts mean SHA1, 6 digits and 30 s."""
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
    """Return the one Key URI in a text. A terminal behind sudo's own can end a line with two carriage returns."""
    (uri,) = re.findall(r"^URI:  (otpauth://\S+)\r*$", text, re.MULTILINE)
    return str(uri)


def recovery_codes_in(text: str) -> list[str]:
    """Return the recovery codes in a text."""
    return re.findall(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}\b", text)


class Dialogue:
    """The program in its own terminal, with a person in front of it. Use it in a `with` block.

    Args:
        command: the command to run there.
        person: the user that runs it. None: root.
        piped: descriptors (1, 2) that go to a file each, not to the terminal; see `piped_stdout`.
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

        # Without its own session and terminal, the program would receive neither Ctrl-C nor a hang-up.
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
        """Return everything that the terminal has shown so far, including what was typed."""
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
        """Wait until the terminal shows a text or the program ends. Return whether it was the text."""
        return int(self._terminal.expect_exact([text, pexpect.EOF])) == 0

    def expect_any(self, *texts: str) -> str:
        """Wait until the terminal shows one of some texts. Return which, or "" if the program ends."""
        found = int(self._terminal.expect_exact([*texts, pexpect.EOF]))
        return [*texts, ""][found]

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        self._terminal.send(line + "\r")

    def type_bytes(self, line: bytes) -> None:
        """Type a line whose bytes are not valid text, and Enter."""
        os.write(self._terminal.child_fd, line + b"\r")

    def press_control(self, letter: str) -> None:
        """Press Ctrl and a letter."""
        self._terminal.send(chr(ord(letter) & 0x1F))

    def hang_up(self) -> None:
        """Close the terminal's window."""
        self._terminal.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        self._process.send_signal(number)

    def finish(self) -> int:
        """Wait for the program's end and return its status."""
        if self._terminal.isalive():
            try:
                self._terminal.expect(pexpect.EOF)
            except pexpect.TIMEOUT:
                raise AssertionError(f"it does not end: {self.transcript!r}") from None
        return self._process.wait(TIMEOUT_S)

    def refused(self) -> Mistake:
        """Check that the program ends with status 1 and gives the reason."""
        status = self.finish()
        mistake = Mistake(self.transcript)
        assert status == 1, self.transcript
        return mistake

    def file(self, number: int) -> str:
        """Return the output of a piped descriptor. Call it after the end."""
        file = self._files[number]
        file.seek(0)
        return file.read().decode()

    def phone(self) -> Phone:
        """Return the token from the Key URI, with the recovery codes that have been shown so far."""
        return Phone(record_of(uri_in(self.transcript), recovery_codes_in(self.transcript)))

    def confirm(self, *, prompt: str = CODE_PROMPT) -> Phone:
        """Complete the whole dialogue without a mistake."""
        self.expect(prompt)
        return self.confirm_from_here()

    def confirm_from_here(self) -> Phone:
        """Complete the rest of the dialogue, from the prompt for the code on."""
        phone = self.phone()
        self.type(phone.hotp() if phone.record["type"] == "hotp" else phone.totp())
        self.expect(ENTER_PROMPT)
        codes = recovery_codes_in(self.transcript)
        self.type("")
        assert self.finish() == 0, self.transcript
        return Phone({**phone.record, "counter": phone.counter, "recovery_codes": codes})


def identity(person: Person | None) -> dict[str, object]:
    """Return the arguments of `subprocess` for the user that runs the program."""
    return {} if person is None else {"user": person.uid, "group": person.gid, "extra_groups": []}


class Enroller:
    """The program.

    Args:
        program: its file, or the words before its own arguments.
    """

    def __init__(self, *program: str | Path) -> None:
        self.program = program

    def after(self, *words: str | Path) -> Enroller:
        """Return the same program, started by another one."""
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
            person: the user that runs it. None: root.
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
