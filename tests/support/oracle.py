"""Debian's pam_google_authenticator as the oracle: the same key, clock and answers as ours, in the same stack.

Before it, a module asks for the password without checking it. After it, another module records the password that it
receives.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import ECHO_OFF, ECHO_ON, PAM_SUCCESS, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import Clock, Pam, hash_anew
from tests.support.preload import SET_CLOCK, compile_library

MODES = ("try_first_pass", "use_first_pass", "forward_pass")
STEP = 70_000_000
"""A time step of 30 seconds, in 2036, so that no code of a test is older than the enrolment."""
NOW = STEP * 30
KEY = b"12345678901234567890"  # that of RFC 6238, appendix B
SCRATCH_CODES = ("12345678", "87654321")
PASSWORD = "secret 42"
"""A password with two digits at its end. Together with a code of six digits they are as long as a scratch code."""
FIRST_COUNTER = 1  # google-authenticator knows no 0
YES, NO, IGNORE = "let in", "refused", "ignored"
_ASK = "auth required pam_exec.so expose_authtok quiet /bin/true\n"
_CONTROL = "[success=ok ignore=1 default=die]"
"""A user whom the tested module ignores is let in, past the module that records the password."""
_MARKS = Path("/var/lib/softtoken/enrolled")


class Way:
    """The place where a code is typed.

    Args:
        modes: options of the module, in this order.
        behind: after the first password; otherwise it is the answer to the module's own question.
    """

    def __init__(self, *modes: str, behind: bool) -> None:
        self.modes = modes
        self.behind = behind

    def __str__(self) -> str:
        return f"{' '.join(self.modes) or 'no mode'}, {'behind the password' if self.behind else 'asked'}"

    @property
    def combined(self) -> bool:
        """Return whether a password can precede the code."""
        return self.behind or "forward_pass" in self.modes

    def answers(self, code: str, password: str) -> list[str]:
        """Return the answers to the questions for the password and of the module. The latter is "" if typed before."""
        if self.behind:
            return [password + code, ""]
        return [password, (password if "forward_pass" in self.modes else "") + code]


def _ways() -> list[Way]:
    ways = []
    for chosen in itertools.product((False, True), repeat=len(MODES)):
        modes = tuple(itertools.compress(MODES, chosen))
        if {"try_first_pass", "use_first_pass"} & set(modes):
            ways.append(Way(*modes, behind=True))
        if "use_first_pass" not in modes:
            ways.append(Way(*modes, behind=False))
    return ways


WAYS = _ways()
"""All eight subsets of the modes, those with `try_first_pass` alone or with `forward_pass` in both ways."""
ALL_WAYS = pytest.mark.parametrize("way", WAYS, ids=str)


class Verdict:
    """A module's reaction to an attempt.

    Attributes:
        says: `YES`, `NO` or `IGNORE`.
        questions: (style, text) of its questions.
        asked: the number of questions.
        handed_on: the password that the next module receives. None: access was refused.
    """

    def __init__(self, outcome: Outcome, handed_on: str | None) -> None:
        let_in = outcome.result == PAM_SUCCESS
        self.says = (IGNORE if handed_on is None else YES) if let_in else NO
        self.questions = [(style, text) for style, text in outcome.messages[1:] if style in (ECHO_OFF, ECHO_ON)]
        self.asked = len(self.questions)
        self.handed_on = handed_on

    def __repr__(self) -> str:
        return f"{self.says}, asked {self.asked} times, handed on {self.handed_on!r}"


def agree(way: Way, ours: Verdict, theirs: Verdict) -> bool:
    """Return whether two verdicts are the same to the user and to the next module.

    Our module asks refused users once, if it asks at all. Theirs does not ask users that exceed its limit. It also does
    not ask again after `try_first_pass` if the code was right at some other time.
    """
    if (ours.says, ours.handed_on) != (theirs.says, theirs.handed_on):
        return False
    if ours.questions[: theirs.asked] != theirs.questions:
        return False
    if ours.says == NO:
        return theirs.asked <= ours.asked == (0 if "use_first_pass" in way.modes else 1)
    return ours.asked == theirs.asked


class Contestant:
    """A module in its stack.

    Args:
        service: the stack.
        person: the user that logs in.
        seen: the file where the last module of the stack records the password.
    """

    def __init__(self, service: Service, person: Person, seen: Path) -> None:
        self.service = service
        self._person = person
        self._seen = seen

    def log_in(self, way: Way, code: str, *, password: str = PASSWORD) -> Verdict:
        """Run an attempt."""
        self._seen.unlink(missing_ok=True)
        outcome = self.service.log_in(self._person, *way.answers(code, password))
        return Verdict(outcome, self._seen.read_bytes().rstrip(b"\0").decode() if self._seen.exists() else None)


class _WithClock(Service):
    """A service whose modules, run in the client's process, read a clock of the test's."""

    def __init__(self, directory: Path, installed: Installation, stack: str, *, library: Path, clock: Clock) -> None:
        super().__init__(directory, installed, stack)
        self._environment = (f"LD_PRELOAD={library}", f"CLOCK_FILE={clock.path}")

    def command(self, user: Person | str, *options: str) -> list[str]:
        return ["/usr/bin/env", *self._environment, *super().command(user, *options)]


class Pair:
    """Ours and theirs, with the same enrolment.

    Args:
        directory: an empty one owned by root.
        pam: makes our service.
        person: the user that logs in.
        records: what `Enrolments` has stored.
        clock: of both modules.
    """

    def __init__(self, directory: Path, pam: Pam, records: Enrolments, clock: Clock) -> None:
        self._directory = directory
        self._pam = pam
        self._records = records
        self._clock = clock
        self.file = directory / "google_authenticator"
        self._seen = directory / "seen"
        self._note = f"auth optional pam_exec.so expose_authtok quiet /usr/bin/tee {self._seen}\n"
        clock.set(NOW)

    def enrol(self, kind: str, *lines: str) -> None:
        """Write the key for both, with no code used.

        Args:
            kind: `totp`, `totp60` or `hotp`.
            lines: of google-authenticator's file, between the key and the scratch codes.
        """
        self._records.restore(kind)
        own = {
            "totp": ["TOTP_AUTH"],
            "totp60": ["TOTP_AUTH", "STEP_SIZE 60"],
            "hotp": [f"HOTP_COUNTER {FIRST_COUNTER}"],
        }
        text = "".join(f'" {line}\n' for line in (*own[kind], *lines))
        self.file.unlink(missing_ok=True)
        self.file.touch(mode=0o600)
        self.file.write_text(
            f"{base64.b32encode(KEY).decode()}\n{text}" + "".join(f"{code}\n" for code in SCRATCH_CODES)
        )

    def ours(self, *options: str) -> Contestant:
        """Return our stack."""
        line = self._pam.line(f"backend={self._clock.backend}", *options, control=_CONTROL)
        return Contestant(self._pam.stack(_ASK + line + self._note), self._records.person, self._seen)

    def theirs(self, *options: str) -> Contestant:
        """Return their stack."""
        words = f"secret={self.file} user=root {' '.join(options)}"
        stack = f"{_ASK}auth {_CONTROL} pam_google_authenticator.so {words}\n{self._note}"
        number = len(list(self._directory.glob("pam.d*")))
        library = self._records.library
        directory = self._directory / f"pam.d{number}"
        service = _WithClock(directory, self._pam.installed, stack, library=library, clock=self._clock)
        return Contestant(service, self._records.person, self._seen)


class Enrolments:
    """One person's files after enrolment, for each kind of token. They are restored before each test.

    Args:
        directory: an empty one owned by root.
        installed: the installation with `softtoken-enroll`.
        person: the owner of the files.
    """

    def __init__(self, directory: Path, installed: Installation, person: Person) -> None:
        self.person = person
        self.phones: dict[str, Phone] = {}
        self._files: dict[str, dict[str, bytes]] = {}
        key = directory / "key"
        key.write_text(base64.b32encode(KEY).decode())
        for kind, options in (("totp", ["--period=30"]), ("totp60", ["--period=60"]), ("hotp", ["--type=hotp"])):
            self.phones[kind] = person.enrol(installed, f"--key-file={key}", "--recovery-codes=1", *options)
            tokens = person.store / "tokens"
            hash_anew(tokens, list(SCRATCH_CODES), 1024)
            document = json.loads(tokens.read_text())
            document["recovery"]["scratch"] = True
            if kind == "hotp":
                document["tokens"][0]["counter"] = FIRST_COUNTER
            tokens.write_text(json.dumps(document))
            self._files[kind] = {path.name: path.read_bytes() for path in person.store.iterdir()}
            self.remove()
        self.library = compile_library(directory / "set_clock.so", SET_CLOCK)

    def remove(self, *, keep_mark: bool = False) -> None:
        """Remove the files. Without the mark of the first login, the user never enrolled. With it, they lost them."""
        shutil.rmtree(self.person.store, ignore_errors=True)
        if not keep_mark:
            (_MARKS / str(self.person.uid)).unlink(missing_ok=True)

    def restore(self, kind: str) -> None:
        """Restore the files as just after the enrolment."""
        self.remove()
        self.person.store.mkdir(mode=0o700)
        os.chown(self.person.store, self.person.uid, self.person.gid)
        for name, data in self._files[kind].items():
            path = self.person.store / name
            path.touch(mode=0o600)
            path.write_bytes(data)
            os.chown(path, self.person.uid, self.person.gid)
