"""Measure when a refusal comes: the time does not show which user was asked for the code."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.admin import Admin, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.pam_scene import NO_CODES, Pam, lock_out, set_pin

WRONG, RECOVERY_CODE, NONSENSE = "00000000", "AAAA-AAAA-AAAA", "let me in"
NOBODY = "nobody-of-that-name"
STEP_S = 0.1
SLOW_DISK_S = 0.02
_BACKEND = """
import hashlib, json, os, sys, types
sys.path.insert(0, {root!r})
from pam_softtoken.login import login, refusal_time
real, clock_s, asked, hashes = login.time, [0.0], [], []
def monotonic():
    asked.append(clock_s[0])
    return clock_s[0]
def sleep(pause_s):
    facts = {{"late_s": clock_s[0] - asked[0] + pause_s, "hashes": len(hashes)}}
    open({facts!r}, "a").write(json.dumps(facts) + "\\n")
def slowed(act, act_s, counted=[]):
    def slow(*words, **options):
        clock_s[0] += act_s
        counted.append(1)
        return act(*words, **options)
    return slow
hashlib.scrypt = slowed(hashlib.scrypt, 0.04, hashes)
os.fdatasync = slowed(os.fdatasync, {disk_s!r})
login.time = refusal_time.time = types.SimpleNamespace(time=real.time, monotonic=monotonic, sleep=sleep)
from pam_softtoken.bridge.backend import main
main(__file__)
"""
"""A real backend with a clock that a busy machine does not move: only hashing and a slow disk do. A hash of the usual
cost takes 40 ms.
"""


class Watched:
    """A service with a real backend that records its pauses instead of waiting."""

    def __init__(self, pam: Pam, place: Path) -> None:
        self._pam = pam
        self._facts = place / "facts"
        self._backend = place / "softtoken-backend"
        self.use()

    def use(self, *options: str, disk_s: float = 0.0) -> None:
        """Set the module options, and how long the disk takes to store a record."""
        root, facts = str(self._pam.installed.root), str(self._facts)
        self._backend.write_text(_BACKEND.format(root=root, facts=facts, disk_s=disk_s))
        self._service = self._pam.with_backend(self._backend, *options)

    def refuse(self, user: Person | str, answer: str) -> tuple[float, int]:
        """Refuse an answer. Return the time from the answer to the refusal in seconds, and the number of hashes."""
        self._facts.write_text("")
        assert self._service.log_in(user, answer).result == PAM_AUTH_ERR
        (facts,) = map(json.loads, self._facts.read_text().splitlines())
        return facts["late_s"], facts["hashes"]


@pytest.fixture
def watched(world: Path, pam: Pam) -> Iterator[Watched]:
    """A service that records when it refuses."""
    place = Path(tempfile.mkdtemp(prefix="watched-", dir=world))
    place.chmod(0o755)
    yield Watched(pam, place)
    shutil.rmtree(place)


def _is_multiple(time_s: float, step_s: float) -> bool:
    return time_s > step_s / 2 and min(time_s % step_s, -time_s % step_s) < 1e-6


@pytest.mark.claim(
    "The time of a refusal does not tell whether the user exists, is enrolled, has a PIN, or has to wait."
)
def test_refusal__takes_one_of_few_times_for_every_reason(
    installed: Installation, service: Service, watched: Watched, alice: Person
) -> None:
    for user in (NOBODY, alice):
        assert _is_multiple(watched.refuse(user, WRONG)[0], STEP_S)
        assert _is_multiple(watched.refuse(user, NONSENSE)[0], STEP_S)
    code = alice.enrol(installed, "--period=300").totp()
    assert service.log_in(alice, code).result == PAM_SUCCESS
    for answer in (code, NONSENSE, *[WRONG] * 7):  # used, malformed, wrong, and in the end throttled
        assert _is_multiple(watched.refuse(alice, answer)[0], STEP_S)


@pytest.mark.claim(
    "The time of a refusal does not tell whether the user exists, is enrolled, has a PIN, or has to wait."
)
def test_refusal__takes_no_longer_where_the_disk_is_slow(
    installed: Installation, watched: Watched, alice: Person
) -> None:
    """A wrong code of an enrolled user is recorded. For other users there is nothing to record."""
    watched.use(disk_s=SLOW_DISK_S)
    alice.enrol(installed, NO_CODES, "--force")
    for user in (NOBODY, alice):
        time_s, _ = watched.refuse(user, WRONG)
        assert round(time_s, 3) == STEP_S


@pytest.mark.claim(
    "The time of a refusal does not tell whether the user exists, is enrolled, has a PIN, or has to wait."
)
def test_refusal__of_a_recovery_code_takes_a_hash_for_everybody(
    installed: Installation, watched: Watched, alice: Person
) -> None:
    for user in (NOBODY, alice):
        time_s, hashes = watched.refuse(user, RECOVERY_CODE)
        assert _is_multiple(time_s, STEP_S)
        assert hashes == 1
    alice.enrol(installed)
    time_s, hashes = watched.refuse(alice, RECOVERY_CODE)
    assert _is_multiple(time_s, STEP_S)
    assert hashes == 1
    issued = succeeded(Admin(installed).run("code-for", alice.name, "--for=1h"))
    keep(issued.strip())
    _, hashes = watched.refuse(alice, RECOVERY_CODE)
    assert hashes == 1, "with an issued code it takes no more"
    lock_out(alice)
    time_s, hashes = watched.refuse(alice, RECOVERY_CODE)
    assert _is_multiple(time_s, STEP_S)
    assert hashes == 1, "a recovery code lets in during a wait, too"
    set_pin(alice.store / "tokens", "4711")
    time_s, hashes = watched.refuse(alice, "4711" + RECOVERY_CODE)
    assert _is_multiple(time_s, STEP_S)
    assert hashes == 0, "behind a PIN nothing is computed during a wait"


@pytest.mark.parametrize("options", [(), ("forward_pass",)], ids=" ".join)
@pytest.mark.parametrize(
    ("answer", "usual_s"),
    [
        ("123456", STEP_S),
        ("AAAA-AAAA-AAAA", STEP_S),
        ("0815123456", 3 * STEP_S),
        ("0815AAAA-AAAA-AAAA", 3 * STEP_S),
        ("secret0815123456", 3 * STEP_S),
        ("0815AAAA34679346", 3 * STEP_S),
    ],
)
@pytest.mark.claim(
    "The time of a refusal does not tell whether the user exists, is enrolled, has a PIN, or has to wait."
)
def test_refusal__takes_as_long_without_a_pin_as_with_a_wrong_one(
    installed: Installation,
    watched: Watched,
    alice: Person,
    make_person: Callable[[], Person],
    answer: str,
    usual_s: float,
    options: tuple[str, ...],
) -> None:
    """The answer may be hashed up to three times, if a code could begin in two places."""
    watched.use(*options)
    bob = make_person()
    for person, pin in ((alice, "471108"), (bob, "")):
        person.enrol(installed, "--type=hotp", NO_CODES)
        if pin:
            set_pin(person.store / "tokens", pin)
    for user in (NOBODY, bob, alice):
        time_s, _ = watched.refuse(user, answer)
        assert round(time_s, 3) == round(usual_s, 3)
