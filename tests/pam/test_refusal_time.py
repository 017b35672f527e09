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

USUAL_COST = 2**14
WRONG, RECOVERY_CODE, NONSENSE = "00000000", "AAAA-AAAA-AAAA", "let me in"
NOBODY = "nobody-of-that-name"
STEP_S = 0.1
SLOW_DISK = """
import os, time
store = os.fdatasync
os.fdatasync = lambda file: time.sleep(0.02) or store(file)
"""
_BACKEND = """
import hashlib, json, sys, types
sys.path.insert(0, {root!r})
from pam_softtoken.login import login, refusal_time
real, asked, hashes = login.time, [], []
def monotonic():
    asked.append(real.monotonic())
    return asked[-1]
def sleep(pause_s):
    facts = {{"elapsed_s": asked[-1] - asked[0], "pause_s": pause_s, "hashes": len(hashes)}}
    open({facts!r}, "a").write(json.dumps(facts) + "\\n")
scrypt = hashlib.scrypt
hashlib.scrypt = lambda *words, **options: hashes.append(1) or scrypt(*words, **options)
login.time = refusal_time.time = types.SimpleNamespace(time=real.time, monotonic=monotonic, sleep=sleep)
from pam_softtoken.bridge.backend import main
main(__file__)
"""


class Watched:
    """A service with a real backend that records its pauses instead of waiting."""

    def __init__(self, pam: Pam, backend: Path, facts: Path) -> None:
        self.backend = backend
        self._pam = pam
        self._service = pam.with_backend(backend)
        self._facts = facts

    def use(self, *options: str) -> None:
        """Set the module options."""
        self._service = self._pam.with_backend(self.backend, *options)

    def refuse(self, user: Person | str, answer: str) -> tuple[float, int]:
        """Refuse an answer. Return the time from the answer to the refusal in seconds, and the number of hashes."""
        self._facts.write_text("")
        assert self._service.log_in(user, answer).result == PAM_AUTH_ERR
        (facts,) = map(json.loads, self._facts.read_text().splitlines())
        return facts["elapsed_s"] + facts["pause_s"], facts["hashes"]


@pytest.fixture
def watched(world: Path, installed: Installation, pam: Pam) -> Iterator[Watched]:
    """A service that records when it refuses."""
    place = Path(tempfile.mkdtemp(prefix="watched-", dir=world))
    place.chmod(0o755)
    facts = place / "facts"
    backend = place / "softtoken-backend"
    backend.write_text(_BACKEND.format(root=str(installed.root), facts=str(facts)))
    yield Watched(pam, backend, facts)
    shutil.rmtree(place)


def _is_multiple(time_s: float, step_s: float) -> bool:
    return time_s > step_s / 2 and min(time_s % step_s, -time_s % step_s) < 1e-6


@pytest.mark.claim(
    "The time of a refusal does not tell whether the user exists, is enrolled, has a PIN, or has to wait."
)
def test_refusal__comes_at_one_of_few_times_for_whatever_reason(
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
    watched.backend.write_text(SLOW_DISK + watched.backend.read_text())
    for user in (NOBODY, alice):
        # A busy machine can delay each of them; a delay by the disk occurs every time.
        for _ in range(20):
            alice.enrol(installed, NO_CODES, "--force")
            time_s, _ = watched.refuse(user, WRONG)
            if round(time_s, 3) == STEP_S:
                break
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
def test_refusal__of_what_could_hold_a_pin_comes_as_late_for_who_has_none(
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
            set_pin(person.store / "tokens", pin, cost=USUAL_COST)
    for user in (NOBODY, bob, alice):
        # A busy machine can delay each of them.
        for _ in range(25):
            time_s, _ = watched.refuse(user, answer)
            if round(time_s, 3) == round(usual_s, 3):
                break
        assert round(time_s, 3) == round(usual_s, 3)
