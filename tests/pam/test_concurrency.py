"""Use one code in N logins at once, through the real module: exactly one of them succeeds, every time.

N clients wait at their prompts, each with a backend that has read token and state file. Then all get the same answer at
once. A client makes one attempt after the other, so that no time is lost by starting clients.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support import sampling
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Pam, hash_anew, oathtool, steady_step
from tests.support.pam_waiting import Waiting
from tests.support.system_log import SystemLog

ROUNDS = sampling.amount(20, full=100)
FEW_ROUNDS = sampling.amount(5, full=20)
CROWDS = (2, 8, 32)
WINDOW = 20
MARGIN = 2  # steps at both ends of the window: the clock advances during the rounds
FULL, LOW = 2**14, 2**10
"""The costs of scrypt: the product's, and the minimum in a token file."""
PATIENT = "timeout=60"
"""Thirty-two recovery codes at once need 32 x 40 ms of hashing on the few free cores of the machine."""


class Crowd:
    """Several clients at their prompts.

    Args:
        service: the service of the logins.
        person: the user.
        size: the number of clients.
        rounds: the number of attempts of each client.
    """

    def __init__(self, service: Service, person: Person, *, size: int, rounds: int) -> None:
        self._exits = contextlib.ExitStack()
        self._clients = [self._exits.enter_context(Waiting(service, person, attempts=rounds)) for _ in range(size)]

    def close(self) -> None:
        """End all clients."""
        self._exits.close()

    def all_answer(self, *answers: str) -> list[Outcome]:
        """Wait until all clients are at their prompt, give all the same answers at once, and return the outcomes."""
        for client in self._clients:
            client.write_down(*answers)
        for client in self._clients:
            client.wait_for_prompt()
        for client in self._clients:
            client.release()
        return [client.outcome() for client in self._clients]


@contextlib.contextmanager
def crowd(service: Service, person: Person, *, size: int, rounds: int) -> Iterator[Crowd]:
    """Start a crowd for the length of the block."""
    clients = Crowd(service, person, size=size, rounds=rounds)
    try:
        yield clients
    finally:
        clients.close()


def assert_one_is_let_in(outcomes: list[Outcome], log: SystemLog, *, accepted: str = "accepted") -> None:
    """Check that one login was accepted, and that all others were refused for that reason."""
    results = sorted(outcome.result for outcome in outcomes)
    assert results == [PAM_SUCCESS] + (len(outcomes) - 1) * [PAM_AUTH_ERR]
    assert sorted(log.reasons()) == sorted([accepted] + (len(outcomes) - 1) * ["replayed"])
    log.clear()


@pytest.mark.parametrize("size", CROWDS)
@pytest.mark.claim(
    "A code works once, however many logins try it at the same moment: TOTP, HOTP and recovery codes, "
    "with 2, 8 and 32 logins at once."
)
def test_hotp__one_code_at_many_prompts_lets_one_in(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog, size: int
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, ROUNDS)
    with crowd(pam.service(PATIENT), alice, size=size, rounds=ROUNDS) as clients:
        for code in codes:
            assert_one_is_let_in(clients.all_answer(code), system_log)


@pytest.mark.parametrize("size", CROWDS)
@pytest.mark.claim(
    "A code works once, however many logins try it at the same moment: TOTP, HOTP and recovery codes, "
    "with 2, 8 and 32 logins at once."
)
def test_totp__one_code_at_many_prompts_lets_one_in(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog, size: int
) -> None:
    """The window of one enrolment has some forty steps. They are used up one after the other."""
    service = pam.service(PATIENT, f"window={WINDOW}")
    played = 0
    while played < ROUNDS:
        phone = alice.enrol(installed, "--period=300", NO_CODES, "--force")
        count = min(2 * (WINDOW - MARGIN) + 1, ROUNDS - played)
        codes = oathtool(phone, int(time.time()) // 300 - WINDOW + MARGIN, count)
        with crowd(service, alice, size=size, rounds=count) as clients:
            for code in codes:
                assert_one_is_let_in(clients.all_answer(code), system_log)
        played += count


@pytest.mark.parametrize(
    ("size", "cost", "rounds"),
    [(2, FULL, ROUNDS), (8, FULL, ROUNDS), (32, LOW, ROUNDS), (32, FULL, FEW_ROUNDS)],
)
@pytest.mark.claim(
    "A code works once, however many logins try it at the same moment: TOTP, HOTP and recovery codes, "
    "with 2, 8 and 32 logins at once."
)
def test_recovery__one_code_at_many_prompts_lets_one_in(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog, size: int, cost: int, rounds: int
) -> None:
    """Thirty-two at the full cost take one second on two cores for each round, nearly all of it before the lock. With
    the
    low cost, more of them meet at the lock.
    """
    service = pam.service(PATIENT)
    played = 0
    while played < rounds:
        codes = alice.enrol(installed, "--recovery-codes=24", "--force").recovery_codes[: rounds - played]
        hash_anew(alice.store / "tokens", codes, cost)
        with crowd(service, alice, size=size, rounds=len(codes)) as clients:
            for code in codes:
                assert_one_is_let_in(clients.all_answer(code), system_log, accepted="recovery")
        played += len(codes)


@pytest.mark.parametrize("kind", ["totp", "hotp"])
def test_first_state__is_made_once_by_many(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog, kind: str
) -> None:
    """All clients find the state file missing, and only one makes the first record."""
    service = pam.service(PATIENT, "no_throttle")
    size = 8
    for _ in range(FEW_ROUNDS):
        if kind == "totp":
            phone = alice.enrol(installed, "--period=300", NO_CODES, "--force")
            answers = oathtool(phone, steady_step(300) + 1)
        else:
            phone = alice.enrol(installed, "--type=hotp", NO_CODES, "--force")
            answers = oathtool(phone, 5, 2)
        (alice.store / "state").unlink()
        results = []
        for answer in answers:
            with crowd(service, alice, size=size, rounds=1) as clients:
                results.append(sorted(outcome.result for outcome in clients.all_answer(answer)))
        # Of two consecutive HOTPs, the first lets nobody in. After that it is a replay.
        assert results[:-1] == [size * [PAM_AUTH_ERR]] * (len(answers) - 1)
        assert results[-1] == [PAM_SUCCESS] + (size - 1) * [PAM_AUTH_ERR]
        assert system_log.reasons().count("accepted") == 1
        assert set(system_log.reasons()) <= {"accepted", "replayed", "mismatch"}
        system_log.clear()


def test_mixed__each_of_several_codes_lets_one_in(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog
) -> None:
    """An OTP and a recovery code, each at four prompts at once: neither loses the other's record."""
    service = pam.service(PATIENT, f"window={WINDOW}")
    phone: Phone = alice.enrol(installed, "--period=300", "--recovery-codes=10")
    codes = oathtool(phone, steady_step(300) - WINDOW + MARGIN, 10)
    with contextlib.ExitStack() as exits:
        clients = [exits.enter_context(Waiting(service, alice, attempts=10)) for _ in range(8)]
        for otp, recovery in zip(codes, phone.recovery_codes, strict=True):
            for number, client in enumerate(clients):
                client.write_down(otp if number % 2 else recovery)
            for client in clients:
                client.wait_for_prompt()
            for client in clients:
                client.release()
            outcomes = [client.outcome().result for client in clients]
            assert sorted(outcomes[::2]) == sorted(outcomes[1::2]) == [PAM_SUCCESS, *3 * [PAM_AUTH_ERR]]
            assert sorted(system_log.reasons()) == ["accepted", "recovery", *6 * ["replayed"]]
            system_log.clear()
    for used in (*codes, *phone.recovery_codes):
        assert service.log_in(alice, used).result == PAM_AUTH_ERR


@pytest.mark.lockout("a login was killed while it held the lock")
def test_killed__login_releases_its_lock(service: Service, alice: Person, phone: Phone) -> None:
    """A client that is killed at its prompt blocks nobody."""
    for _ in range(5):
        with Waiting(service, alice) as client:
            client.wait_for_prompt()
            subprocess.run(["kill", "-KILL", str(client.pid)], check=True)
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


def test_resync__second_code_at_many_prompts_lets_one_in(installed: Installation, pam: Pam, alice: Person) -> None:
    """All logins have read the first code before one of them is let in."""
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, 20 * 30 + 2)
    service = pam.service("no_throttle")
    with crowd(service, alice, size=8, rounds=20) as clients:
        for first in range(20, 20 * 30, 30):
            assert service.log_in(alice, codes[first]).result == PAM_AUTH_ERR
            results = sorted(outcome.result for outcome in clients.all_answer(codes[first + 1]))
            assert results == [PAM_SUCCESS, *[PAM_AUTH_ERR] * 7]
