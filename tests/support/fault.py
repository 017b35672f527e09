"""Disturb one system call of one login. strace lists the calls of an attempt. It then kills the process at any one of
them, or fails the call.

Host and backend make calls of the same names, and strace counts them for each process. So the backend is traced alone:
a script in its place runs the interpreter under strace. The socket and everything else are as the bridge left them,
except the alarm, which does not get past strace.
"""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pam_softtoken.account import account_record
from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_CONV_ERR, PAM_SERVICE_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, hash_anew, oathtool, wrong_code
from tests.support.process import processes, wait_until
from tests.support.sampling import sampled, source

TIMEOUT_S = 2
"""The time that the module allows its backend. A disturbed login may take this long, and no longer."""
SLACK_S = 8
"""Additional time for a busy machine."""
TRIES = 5
REFUSALS = (PAM_AUTH_ERR, PAM_SERVICE_ERR, PAM_CONV_ERR)
PAM_PERM_DENIED = 6
"""libpam's result for a stack in which every module returned `PAM_IGNORE`."""
ADDRESSES = ("brk", "mmap", "munmap", "mremap", "madvise", "futex")
"""Calls whose number differs from run to run, because it depends on the addresses that the kernel chooses."""
KILL = "signal=KILL"
HOSTS, HOST_IDS = ((), ("--subreaper",)), ("plain", "subreaper")
"""Options of the client. A host that inherits orphans has the bridge's middle child until the backend has ended."""
MARKS = Path("/var/lib/softtoken/enrolled")
LEAST_SCRYPT_N = 2**10
CHANGING = {
    "rename", "renameat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "write", "pwrite64", "fsync", "fdatasync",
    "ftruncate", "fchmod", "flock", "openat", "setresuid",
}  # fmt: skip
"""Calls by which a program of ours changes something, or decides to."""
DECISIVE = ("rename", "renameat", "unlink", "unlinkat", "pwrite64")
"""Before and after these something else counts."""
STORING = ("pwrite64", "fdatasync", "fsync", "flock")
AROUND, FEW, SOME = 0.25, 0.04, 0.12
"""The parts of a sweep that an ordinary run takes: of the calls around decisive ones, and of the rest."""
_INTERPRETER = ("/usr/bin/python3", "-I", "-S", "-B")
_Result = TypeVar("_Result")
_CALL = re.compile(r"^(?P<pid>\d+) +(?P<text>(?P<name>\w+)\(.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call of one process.

    Attributes:
        name: its name in strace.
        number: how many calls of this name the process has made, including this one.
        text: strace's line.
    """

    name: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.name} number {self.number}, {self.text}"


def calls_in(trace: str) -> dict[int, list[Call]]:
    """Return the calls of each process, in order, from a trace that was made with `-f`."""
    found: dict[int, list[Call]] = {}
    for line in trace.splitlines():
        match = _CALL.match(line)
        if match:
            calls = found.setdefault(int(match["pid"]), [])
            number = sum(call.name == match["name"] for call in calls) + 1
            calls.append(Call(match["name"], number, match["text"]))
    return found


def is_unsteady(call: Call) -> bool:
    """Return whether this call may be missing in another run of the same attempt."""
    return call.name in ADDRESSES


@dataclass(frozen=True, slots=True)
class Act:
    """What the user types.

    Attributes:
        answers: for the disturbed login.
        following: what must work after it.
        wrong: what never works.
        before: refused answers that are typed first, to prepare the state file for the disturbed login.
    """

    answers: tuple[str, ...]
    following: tuple[str, ...]
    wrong: str
    before: str = ""


KINDS = ("totp", "recovery", "first_totp", "lost_hotp")
"""An OTP, a recovery code, the first login, for which there is no state file yet, and the second of two consecutive
OTPs, of a token whose counter has been lost.
"""
NEVER_ENROLLED, FILE_GONE = "never_enrolled", "file_gone"
"""Users that no login may accept: without a token file, and without or with the mark of an earlier login."""


def _enrol(kind: str, person: Person, installed: Installation) -> Act:
    if kind == "recovery":
        codes = person.enrol(installed, "--recovery-codes=2").recovery_codes
        hash_anew(person.store / "tokens", codes, LEAST_SCRYPT_N)
        return Act((codes[0],), (codes[1],), "AAAA-AAAA-AAAA")
    if kind.endswith("hotp"):
        phone = person.enrol(installed, "--type=hotp", NO_CODES)
        codes = oathtool(phone, 0, 4)
        return Act((codes[1],), (codes[2],), wrong_code(phone), before=codes[0])
    if kind == NEVER_ENROLLED:
        return Act(("123456",), (), "123456")
    # Far enough ahead for a step to end during the test, even if the present step counts as used.
    phone = person.enrol(installed, "--period=300", NO_CODES)
    return Act((phone.totp(2),), (phone.totp(3),), wrong_code(phone))


class Stage:
    """A person, their token, and a module whose backend can be disturbed. Every login can be repeated from the start.

    Args:
        directory: a new one owned by root, that everybody can enter.
        installed: the installation with the module.
        person: the user that logs in; not enrolled yet.
        make_service: makes a PAM service.
        kind: one of `KINDS`, or one of the kinds without a token file.
    """

    def __init__(
        self,
        directory: Path,
        installed: Installation,
        person: Person,
        make_service: Callable[[str], Service],
        kind: str,
    ) -> None:
        self.person = person
        self.act = _enrol(kind, person, installed)
        self._directory = directory
        self._trace = directory / "trace"
        self._traced = directory / "traced-backend"
        # Our own script, so that its processes differ from those of other logins.
        self._backend = directory / "backend"
        self._backend.write_text(
            f"import sys\nsys.path.insert(0, {str(installed.root)!r})\n"
            "from pam_softtoken.bridge.backend import main\nmain(__file__)\n"
        )
        impatient = f"timeout={TIMEOUT_S}"
        self._disturbed_backend = make_service(_line(installed, self._traced, impatient))
        self._disturbed_host = make_service(_line(installed, self._backend, impatient))
        self._undisturbed = make_service(_line(installed, self._backend))
        self._marks = (
            MARKS / str(person.uid),
            Path(account_record.record_of(person.name)),
            Path(account_record.record_of_home(str(person.home))),
        )
        self._is_marked = kind == FILE_GONE
        if self._is_marked:
            assert self.log_in(*self.act.answers) == PAM_SUCCESS
            (person.store / "tokens").unlink()
        state = person.store / "state"
        if self.act.before:
            state.unlink()
            assert self.log_in(self.act.before) == PAM_AUTH_ERR
        self._state = None if kind.startswith("first") or not state.exists() else state.read_bytes()

    def reset(self) -> None:
        """Restore the files after the enrolment: with that state, or with none, and without a mark of a success."""
        if not self._is_marked:
            for path in self._marks:
                path.unlink(missing_ok=True)
        if self._state is None:
            (self.person.store / "state").unlink(missing_ok=True)
        else:
            (self.person.store / "state").write_bytes(self._state)

    def log_in(self, *answers: str) -> int:
        """Log in without a disturbance."""
        return self._undisturbed.log_in(self.person, *answers).result

    def backend_calls(self, *answers: str) -> list[Call]:
        """List the calls of a backend, from its first one as a program to its end."""
        self.reset()
        self._trace_backend("trace=all")
        self._disturbed_backend.log_in(self.person, *answers)
        (calls,) = calls_in(self._trace_of_backend()).values()
        return calls

    def disturb_backend(self, call: Call, how: str, *answers: str) -> int:
        """Log in, with the backend's call failing or killing it.

        Args:
            call: one of `backend_calls`.
            how: what strace shall do. A `+` at the end applies it to all later calls of that name, too.
            answers: what the user types.
        """
        # strace stops only at the one call, which is much faster, but then it cannot deliver a signal.
        quick = () if how == KILL else ("--seccomp-bpf",)

        def log_in() -> int:
            self._trace_backend(*_at(call, how), options=quick)
            return self._disturbed_backend.log_in(self.person, *answers).result

        result = self._in_time(log_in)
        calls = [other for each in calls_in(self._trace_of_backend()).values() for other in each]
        met = [other.number for other in calls if "(INJECTED)" in other.text or (how == KILL and other == calls[-1])]
        assert is_unsteady(call) or met[:1] == [call.number], f"happened at {met}"
        return result

    def host_calls(self, *options: str) -> list[Call]:
        """List the calls of the host in pam_authenticate, and a few calls of the client around it.

        Args:
            options: of the client.
        """
        self.reset()
        done = self._trace_host(options, "trace=all")
        assert Outcome(done.stdout).result == PAM_SUCCESS
        calls = _calls_of_one(self._trace.read_text())
        texts = [call.text for call in calls]
        begin = max(number for number, text in enumerate(texts) if str(self._disturbed_host.directory) in text)
        end = next(number for number, text in enumerate(texts) if number > begin and "/proc/self/smaps" in text)
        return calls[begin + 1 : end]

    def fail_host(self, call: Call, how: str, *options: str) -> int:
        """Log in, with the host's call failing."""
        return self._disturb_host(call, how, options)

    def kill_host(self, call: Call, *options: str) -> None:
        """Log in, with the host's call killing it."""
        done = self._trace_host(options, *_at(call, KILL))
        assert done.returncode == -signal.SIGKILL, "did not happen"

    def child_calls(self) -> list[Call]:
        """List the calls of the bridge's two children, before they run another program, that the host does not make.

        A call that the host makes, too, under the same name and number, cannot be disturbed in the children alone.
        """
        self.reset()
        self._trace_host((), "trace=all", follow=True)
        (_, host), *children = calls_in(self._trace.read_text()).items()
        those_of_host = {(call.name, call.number) for call in host}
        found: dict[tuple[str, int], Call] = {}
        for _, calls in children:
            for call in calls:
                if call.name == "execve" and call.number > 1:
                    break
                found.setdefault((call.name, call.number), call)
                if call.name == "execve":
                    break
        return [call for key, call in found.items() if key not in those_of_host]

    def disturb_children(self, call: Call, how: str) -> int:
        """Log in, with a call failing or killing in every process of the login that makes it."""
        return self._disturb_host(call, how, follow=True)

    def wait_for_the_end(self) -> None:
        """Wait until all backends and clients of this stage have ended."""
        ours = (str(self._directory), str(self._disturbed_host.directory))
        wait_until(
            lambda: not any(path in process.command for process in processes() for path in ours),
            "the backend to go",
            within_s=TIMEOUT_S + SLACK_S,
        )

    def _disturb_host(self, call: Call, how: str, options: tuple[str, ...] = (), *, follow: bool = False) -> int:
        done = self._in_time(lambda: self._trace_host(options, *_at(call, how), follow=follow))
        happened = "killed by SIGKILL" if how == KILL else "(INJECTED)"
        assert is_unsteady(call) or happened in self._trace.read_text(), "did not happen"
        return Outcome(done.stdout).result

    def _in_time(self, log_in: Callable[[], _Result]) -> _Result:
        """Run a login, and again from the start if it takes too long. On a busy machine any login may, but not each."""
        for _ in range(TRIES):
            began = time.monotonic()
            result = log_in()
            if time.monotonic() - began < TIMEOUT_S + SLACK_S:
                return result
            self.reset()
        raise AssertionError("the login took longer than the module allows")

    def _trace_backend(self, *expressions: str, options: tuple[str, ...] = ()) -> None:
        self._trace.unlink(missing_ok=True)
        # With -D, strace is the child, and the backend remains the process that the bridge has made.
        command = ["strace", "-D", "-f", *options, "-o", str(self._trace), *_expressions(expressions)]
        command += [*_INTERPRETER, str(self._backend)]
        self._traced.write_text(f"import os\nos.execv('/usr/bin/strace', {command!r})\n")

    def _trace_of_backend(self) -> str:
        wait_until(lambda: self._trace.exists() and "+++" in self._trace.read_text(), "the end of the trace")
        return self._trace.read_text()

    def _trace_host(
        self, options: tuple[str, ...], *expressions: str, follow: bool = False
    ) -> subprocess.CompletedProcess[str]:
        self._trace.unlink(missing_ok=True)
        command = ["strace", *(["-f"] if follow else []), "-o", str(self._trace), *_expressions(expressions)]
        return subprocess.run(
            [*command, *self._disturbed_host.command(self.person, *options)],
            input="".join(f"={answer}\n" for answer in self.act.answers),
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )


def _line(installed: Installation, backend: Path, *settings: str) -> str:
    return f"auth required {installed.bridge} backend={backend} window=5 nullok {' '.join(settings)}\n"


def _at(call: Call, how: str) -> tuple[str, str]:
    """Return strace's options for what to do when. A `+` at the end of `how` applies it once and ever after."""
    when = f"{call.number}{'+' * how.endswith('+')}"
    return f"trace={call.name}", f"inject={call.name}:{how.rstrip('+')}:when={when}"


def _expressions(expressions: Iterable[str]) -> list[str]:
    return [word for expression in expressions for word in ("-e", expression)]


def _calls_of_one(trace: str) -> list[Call]:
    """Read a trace that was made without `-f`."""
    seen: Counter[str] = Counter()
    found = []
    for line in trace.splitlines():
        name = line.partition("(")[0]
        if name.isidentifier():
            seen[name] += 1
            found.append(Call(name, seen[name], line))
    return found


def from_the_first_frame(calls: list[Call]) -> list[Call]:
    """Return the calls without the start of the interpreter: from the reading of the bridge's first frame on."""
    return calls[before_the_first_frame(calls) :]


def drawn(calls: list[Call], share: float = FEW) -> list[Call]:
    """Return a sample of the calls at which a program is killed. All calls would take minutes.

    The sample always has the first and the last call, and those at and after each rename, or else at and after the last
    decisive call. Others near a decisive call are more likely than the rest.

    Args:
        calls: all of them, in order.
        share: the part of the rest that an ordinary run takes.
    """
    decisive = [place for place, call in enumerate(calls) if call.name in DECISIVE]
    certain = [place for place in decisive if calls[place].name.startswith("rename")] or decisive[-1:]
    always = [calls[place] for place in sorted(_with_next(certain, calls) | {0, len(calls) - 1})]
    around = [calls[place] for place in sorted(_with_next(decisive, calls))]
    return sampled(calls, share, always=sampled(around, AROUND, always=always) + always)


def drawn_failures(failures: list[tuple[Call, str]], share: float) -> list[tuple[Call, str]]:
    """Return a sample of calls and the errors that they meet.

    The sample always has one error, which changes, of the first and the last call and of each that stores a record.

    Args:
        failures: all of them, in order.
        share: the part of the rest that an ordinary run takes.
    """
    of_call: dict[Call, list[tuple[Call, str]]] = {}
    for failure in failures:
        of_call.setdefault(failure[0], []).append(failure)
    calls = list(of_call)
    certain = [call for call in calls if call.name in STORING or call in (calls[0], calls[-1])]
    draw = source("errors")
    return sampled(failures, share, always=[draw.choice(of_call[call]) for call in certain])


def _with_next(places: list[int], calls: list[Call]) -> set[int]:
    return {near for place in places for near in (place, place + 1)} & set(range(len(calls)))


def before_the_first_frame(calls: list[Call]) -> int:
    """Return how many calls the interpreter makes to start."""
    return next(number for number, call in enumerate(calls) if call.text.startswith(r'read(0, "\1S'))


def make_directory(world: Path) -> Path:
    """Return a new directory for one stage."""
    directory = Path(tempfile.mkdtemp(prefix="stage-", dir=world))
    directory.chmod(0o755)
    return directory


class Troupe:
    """Several stages of one kind, which run the same scene in parallel.

    Args:
        stages: at least one.
    """

    def __init__(self, stages: list[Stage]) -> None:
        self.lead = stages[0]
        self._stages = stages
        self._free: queue.SimpleQueue[Stage] = queue.SimpleQueue()
        for stage in stages:
            self._free.put(stage)

    def play(self, scene: Callable[[Stage, Call, str], None], pairs: list[tuple[Call, str]]) -> None:
        """Run a scene for each call and disturbance. Report each failure with its place."""
        assert pairs
        with ThreadPoolExecutor(len(self._stages)) as pool:
            complaints = list(pool.map(lambda pair: self._complaint_of(scene, *pair), pairs))
        found = [complaint for complaint in complaints if complaint]
        assert not found, "\n".join([f"{len(found)} of {len(pairs)}:", *found])

    def _complaint_of(self, scene: Callable[[Stage, Call, str], None], call: Call, how: str) -> str:
        stage = self._free.get()
        try:
            stage.reset()
            scene(stage, call, how)
        except AssertionError as error:
            return f"{how} at {call}: {str(error).splitlines()[0]}"
        finally:
            self._free.put(stage)
        return ""


def assert_used_once_at_most(stage: Stage, result: int | None) -> bool:
    """Check that the code of a disturbed login works once at most, and that the next code works.

    Args:
        stage: the place of the login.
        result: its result. None: no process was left to receive it.

    Returns:
        Whether the code was still unused.
    """
    assert result is None or result == PAM_SUCCESS or result in REFUSALS, f"the disturbed login gave {result}"
    again = stage.log_in(*stage.act.answers)
    assert again in (PAM_SUCCESS, PAM_AUTH_ERR), f"the same code gave {again}"
    assert [result, again].count(PAM_SUCCESS) <= 1, "the code worked twice"
    following = stage.log_in(*stage.act.following)
    assert following == PAM_SUCCESS, f"the next code gave {following}"
    return again == PAM_SUCCESS
