"""Stop `softtoken-enroll` half-way: Ctrl-C, end of the input, signals, a closed terminal, at every point."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_SUCCESS, Service
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, Dialogue, Enroller, Finished, Mistake
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.sampling import sampled

INTERRUPTED = "interrupted; nothing was changed"
ENDED = "the input ended before an answer; nothing was changed"
STOPS: dict[str, tuple[Callable[[Dialogue], None], str]] = {
    "Ctrl-C": (lambda dialogue: dialogue.press_control("C"), INTERRUPTED),
    "Ctrl-D": (lambda dialogue: dialogue.press_control("D"), ENDED),
    "SIGTERM": (lambda dialogue: dialogue.signal(signal.SIGTERM), INTERRUPTED),
    "SIGHUP": (lambda dialogue: dialogue.signal(signal.SIGHUP), INTERRUPTED),
}


def go_to(prompt: str, dialogue: Dialogue) -> None:
    """Answer all questions before a prompt."""
    dialogue.expect(CODE_PROMPT)
    if prompt == ENTER_PROMPT:
        dialogue.type(dialogue.phone().totp())
        dialogue.expect(ENTER_PROMPT)


@pytest.mark.parametrize("prompt", [CODE_PROMPT, ENTER_PROMPT])
@pytest.mark.parametrize("stop", STOPS)
def test_enroll__stopped_at_a_prompt_leaves_nothing(enroller: Enroller, alice: Person, stop: str, prompt: str) -> None:
    before = listing(alice.home)
    with enroller.start("--period=300", person=alice) as dialogue:
        go_to(prompt, dialogue)
        STOPS[stop][0](dialogue)
        assert dialogue.refused().error == STOPS[stop][1]
    assert listing(alice.home) == before


@pytest.mark.parametrize("prompt", [CODE_PROMPT, ENTER_PROMPT])
@pytest.mark.parametrize("stop", STOPS)
def test_enroll__stopped_at_a_prompt_keeps_the_earlier_token(
    enroller: Enroller, installed: Installation, alice: Person, *, service: Service, stop: str, prompt: str
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    before = listing(alice.home)
    with enroller.start("--force", "--period=300", person=alice) as dialogue:
        go_to(prompt, dialogue)
        STOPS[stop][0](dialogue)
        assert dialogue.refused().error == STOPS[stop][1]
    assert listing(alice.home) == before
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("prompt", [CODE_PROMPT, ENTER_PROMPT])
def test_enroll__closed_terminal_leaves_nothing(enroller: Enroller, alice: Person, prompt: str) -> None:
    before = listing(alice.home)
    with enroller.start("--period=300", person=alice) as dialogue:
        go_to(prompt, dialogue)
        dialogue.hang_up()
        assert dialogue.finish() == 1
    assert listing(alice.home) == before


@pytest.mark.lockout("the terminal is closed during softtoken-enroll --force")
def test_enroll__closed_terminal_keeps_the_earlier_token(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    before = listing(alice.home)
    with enroller.start("--force", person=alice) as dialogue:
        go_to(CODE_PROMPT, dialogue)
        dialogue.hang_up()
        assert dialogue.finish() == 1
    assert listing(alice.home) == before
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.lockout("a power cut leaves empty files beside the tokens")
def test_enroll__works_with_leftovers_of_a_power_cut(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    for name in (".tokens.0123456789abcdef", ".tokens", ".tokens.moving"):
        (alice.store / name).touch(0o600)
        os.chown(alice.store / name, alice.uid, alice.gid)
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    done = enroller.run(*OPTIONS, "--force", person=alice)
    assert service.log_in(alice, Phone(json.loads(done.stdout)).totp(1)).result == PAM_SUCCESS


def test_enroll__interrupted_one_removes_every_new_directory(enroller: Enroller, alice: Person) -> None:
    before = listing(alice.home)
    with enroller.start("--store=%h/.config/soft/token", person=alice) as dialogue:
        go_to(CODE_PROMPT, dialogue)
        dialogue.press_control("C")
        dialogue.refused()
    assert listing(alice.home) == before


def test_enroll__quit_key_leaves_nothing(enroller: Enroller, alice: Person) -> None:
    before = listing(alice.home)
    with enroller.start("--period=300", person=alice) as dialogue:
        go_to(CODE_PROMPT, dialogue)
        dialogue.press_control("\\")
        dialogue.refused()
    assert listing(alice.home) == before


def test_enroll__key_cannot_get_into_a_core_file(enroller: Enroller, alice: Person) -> None:
    with enroller.after("prlimit", "--core=1073741824").start(person=alice) as dialogue:
        go_to(CODE_PROMPT, dialogue)
        limits = Path(f"/proc/{dialogue.pid}/limits").read_text()
    assert re.search(r"^Max core file size +(\d+)", limits, re.MULTILINE).group(1) == "1"  # type: ignore[union-attr]


@pytest.mark.lockout("the first enrolment is killed while it asks")
def test_enroll__killed_at_the_prompt_does_not_hinder_the_next_one(
    enroller: Enroller, alice: Person, service: Service
) -> None:
    with enroller.start("--period=300", person=alice) as dialogue:
        go_to(CODE_PROMPT, dialogue)
        dialogue.signal(signal.SIGKILL)
        assert dialogue.finish() == -signal.SIGKILL
    with enroller.start("--period=300", "--recovery-codes=1", person=alice) as dialogue:
        phone = dialogue.confirm()
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


@pytest.mark.lockout("softtoken-enroll --force is killed while it asks")
def test_enroll__killed_at_the_prompt_keeps_the_earlier_token(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    before = listing(alice.home)
    with enroller.start("--force", "--period=300", person=alice) as dialogue:
        go_to(ENTER_PROMPT, dialogue)
        dialogue.signal(signal.SIGKILL)
        dialogue.finish()
    assert listing(alice.home) == before
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


# Send signals at every point of a run, not only while it waits. strace sends one at the n-th call of a kind, so each
# point is hit, every time.

SIGNAL_POINTS = ("mkdirat", "openat", "pwrite64", "fdatasync", "fsync", "flock", "renameat", "close", "write")
OPTIONS = ("--no-confirm", "--json", "--recovery-codes=0", "--period=300")


class Call(NamedTuple):
    """A system call of the program.

    Attributes:
        name: its name in strace.
        ordinal: its number among the calls of this name.
        line: strace's whole line.
    """

    name: str
    ordinal: int
    line: str


class Strace:
    """Runs the program for a user, and sends it a signal at a chosen call."""

    def __init__(self, enroller: Enroller, person: Person, outside: Path, *options: str) -> None:
        self._enroller = enroller
        self._trace = outside / "trace"
        self._options = ("--user", person.name, *OPTIONS, *options)

    def calls_after(self, path: str) -> list[Call]:
        """Run it undisturbed, and list its calls after it opened a file."""
        strace = ("strace", "-o", self._trace, "-e", f"trace={','.join(SIGNAL_POINTS)}")
        done = self._enroller.after(*strace).run(*self._options)
        assert done.status == 0, done.stderr
        counts: Counter[str] = Counter()
        calls = []
        for line in self._trace.read_text().splitlines():
            if match := re.match(r"(\w+)\(", line):
                counts[match[1]] += 1
                calls.append(Call(match[1], counts[match[1]], line))
        start = next(place for place, call in enumerate(calls) if call.name == "openat" and path in call.line)
        return calls[start + 1 :]

    def run(self, call: Call, number: signal.Signals) -> Finished:
        """Run it again, and send the signal at one of the calls."""
        injection = f"inject={call.name}:signal={number.name}:when={call.ordinal}"
        strace = ("strace", "-o", "/dev/null", "-e", f"trace={call.name}", "-e", injection)
        return self._enroller.after(*strace).run(*self._options)


def test_enroll__ctrl_c_while_it_starts_shows_no_traceback(enroller: Enroller, alice: Person, outside: Path) -> None:
    strace = Strace(enroller, alice, outside)
    # Before our program is opened, the Python interpreter starts. We do not control its messages: it may print nothing
    # and continue.
    later = strace.calls_after("/softtoken-enroll")
    calls = [call for call in later if call.name == "openat" and "/softtoken-enroll" not in call.line]
    opens = calls[: next(place for place, call in enumerate(calls) if "/softtoken.conf" in call.line)]
    shutil.rmtree(alice.store)
    before = listing(alice.home)
    failed = []
    for call in sampled(opens, 0.05, always=(opens[0], opens[-1])):
        finished = strace.run(call, signal.SIGINT)
        if (
            finished.status not in (1, -signal.SIGINT)
            or "Traceback" in finished.stderr
            or listing(alice.home) != before
        ):
            failed.append(f"{call.line}: status {finished.status}, {finished.stderr}")
        shutil.rmtree(alice.store, ignore_errors=True)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(
    ("number", "earlier"), [(signal.SIGINT, False), (signal.SIGTERM, True)], ids=["Ctrl-C, new", "SIGTERM, replacing"]
)
def test_enroll__signal_at_any_point_of_writing_changes_all_or_nothing(
    enroller: Enroller,
    installed: Installation,
    alice: Person,
    outside: Path,
    *,
    number: signal.Signals,
    earlier: bool,
) -> None:
    strace = Strace(enroller, alice, outside, *(["--force"] if earlier else []))
    if earlier:
        alice.enrol(installed, "--recovery-codes=0")
    calls = strace.calls_after("/softtoken.conf")
    if not earlier:
        shutil.rmtree(alice.store)
    wrong = []
    renames = [place for place, call in enumerate(calls) if call.name == "renameat"]
    always = [calls[0], calls[-1], *(calls[place + step] for place in renames for step in (-1, 0, 1))]
    for call in sampled(calls, 0.15, always=always):
        tokens = (alice.store / "tokens").read_bytes() if earlier else None
        finished = strace.run(call, number)
        wrong += [f"{call.line[:60]}: {problem}" for problem in problems_with(finished, alice, tokens)]
        if not earlier:
            shutil.rmtree(alice.store, ignore_errors=True)
    assert len(calls) > 20
    assert not wrong, "\n".join(wrong)


def problems_with(finished: Finished, person: Person, tokens: bytes | None) -> list[str]:
    """Check a run that got a signal: its messages must match what it did."""
    file = person.store / "tokens"
    changed = file.exists() and file.read_bytes() != tokens
    found = []
    if "Traceback" in finished.stderr:
        found.append("shows a traceback")
    elif finished.status == 1:
        found += [] if Mistake(finished.stderr).error == INTERRUPTED else ["says something else"]
    elif finished.status not in (0, -signal.SIGINT, -signal.SIGTERM) or finished.stderr:
        found.append(f"has status {finished.status}")
    if finished.status == 1 and changed:
        found.append("says that nothing was changed, and the token was")
    if finished.status != 1 and finished.stdout:
        # Too late for the signal: the user has everything they need.
        found += [] if changed and json.loads(finished.stdout)["key"] in file.read_text() else ["was not done"]
    elif changed:
        found.append("enrolled a token that nobody has")
    if tokens is None and person.store.exists() and not changed:
        found.append(f"left behind {sorted(path.name for path in person.store.iterdir())}")
    return found
