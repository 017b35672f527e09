"""Log in with TOTP, HOTP and recovery codes. Every expected code comes from oathtool or an RFC."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.account.state_format import SLOT_BYTES
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, TEXT_INFO, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, PROMPT, Clock, Pam, oathtool, steady_step, wrong_code
from tests.support.pam_waiting import Waiting
from tests.support.system_log import SystemLog

ALGORITHMS, DIGITS = ("SHA1", "SHA256", "SHA512"), (6, 7, 8)
ENOUGH_BITS = {"SHA1": 20, "SHA256": 32, "SHA512": 64}


def write_tokens(person: Person, *phones: Phone) -> None:
    """Write a token file by hand, with several tokens and no recovery codes."""
    tokens = []
    for phone in phones:
        fields = {name: phone.record[name] for name in ("name", "type", "key", "algorithm", "digits")}
        counting = "counter" if phone.record["type"] == "hotp" else "period"
        tokens.append({**fields, "created": 1, counting: phone.record[counting]})
    recovery = {"scrypt": [16384, 8, 1], "salt": 32 * "0", "hashes": []}
    path = person.store / "tokens"
    person.store.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps({"version": 1, "tokens": tokens, "recovery": recovery}))
    path.chmod(0o600)
    for each in (person.store, path):
        os.chown(each, person.uid, person.gid)


def new_phone(name: str, **fields: object) -> Phone:
    """Create a token that is not enrolled yet."""
    algorithm = str(fields.get("algorithm", "SHA1"))
    key = base64.b32encode(secrets.token_bytes(ENOUGH_BITS[algorithm])).decode().rstrip("=")
    record: dict[str, object] = {"name": name, "type": "totp", "key": key, "algorithm": algorithm, "digits": 6}
    return Phone({"counter": None, "period": 30, "recovery_codes": [], **record, **fields})


# ---- every kind of token


@pytest.mark.parametrize("digits", DIGITS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_totp__of_every_algorithm_and_length_works_once(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog, algorithm: str, digits: int
) -> None:
    phone = alice.enrol(installed, "--period=300", f"--algorithm={algorithm}", f"--digits={digits}", NO_CODES)
    code = phone.totp()
    assert len(code) == digits
    for answer, result in ((code[1:], 7), (code + "0", 7), (code, 0), (code, 7), (phone.totp(1), 0), (code, 7)):
        assert service.log_in(alice, answer).result == result
    assert system_log.reasons()[2:] == ["accepted", "replayed", "accepted", "replayed"]
    assert set(system_log.reasons()[:2]) <= {"malformed", "mismatch"}


@pytest.mark.parametrize("digits", DIGITS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_hotp__of_every_algorithm_and_length_works_once(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog, algorithm: str, digits: int
) -> None:
    phone = alice.enrol(installed, "--type=hotp", f"--algorithm={algorithm}", f"--digits={digits}", NO_CODES)
    first, second, third = phone.hotp(), phone.hotp(), phone.hotp()
    assert len(first) == digits
    for answer, result in ((first, 0), (first, 7), (third, 0), (second, 7), (third, 7), (phone.hotp(), 0)):
        assert service.log_in(alice, answer).result == result
    assert system_log.reasons() == ["accepted", "replayed", "accepted", "replayed", "replayed", "accepted"]


RFC6238_KEYS = {
    "SHA1": b"12345678901234567890",
    "SHA256": b"12345678901234567890123456789012",
    "SHA512": b"1234567890123456789012345678901234567890123456789012345678901234",
}
RFC6238 = {
    59: ("94287082", "46119246", "90693936"),
    1111111109: ("07081804", "68084774", "25091201"),
    1111111111: ("14050471", "67062674", "99943326"),
    1234567890: ("89005924", "91819424", "93441116"),
    2000000000: ("69279037", "90698825", "38618901"),
    20000000000: ("65353130", "77737706", "47863826"),
}
"""RFC 6238, appendix B."""


@pytest.mark.parametrize("place", range(3), ids=ALGORITHMS)
def test_totp__rfc_6238_appendix_b_logs_in(
    installed: Installation, pam: Pam, alice: Person, clock: Clock, tmp_path: Path, place: int
) -> None:
    key = tmp_path / "key"
    key.write_text(base64.b32encode(RFC6238_KEYS[ALGORITHMS[place]]).decode())
    alice.enrol(installed, f"--algorithm={ALGORITHMS[place]}", "--digits=8", NO_CODES, f"--key-file={key}")
    service = pam.with_backend(clock.backend, "window=0")
    for now, codes in RFC6238.items():
        clock.set(now)
        assert service.log_in(alice, codes[place]).result == PAM_SUCCESS
        assert service.log_in(alice, codes[place]).result == PAM_AUTH_ERR


RFC4226 = ("755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489")
"""RFC 4226, appendix D."""


def test_hotp__rfc_4226_appendix_d_logs_in(
    installed: Installation, service: Service, alice: Person, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text(base64.b32encode(b"12345678901234567890").decode())
    alice.enrol(installed, "--type=hotp", NO_CODES, f"--key-file={key}")
    for code in RFC4226:
        assert service.log_in(alice, code).result == PAM_SUCCESS
    for code in RFC4226:
        assert service.log_in(alice, code).result == PAM_AUTH_ERR


def test_totp__of_every_period_from_1_to_300_s_works_once(pam: Pam, alice: Person, clock: Clock) -> None:
    """Sixteen tokens at a time, the maximum of a token file."""
    now = 1_700_000_007
    service = pam.with_backend(clock.backend)
    for first in range(1, 301, 16):
        phones = [new_phone(f"of {period} s", period=period) for period in range(first, min(first + 16, 301))]
        write_tokens(alice, *phones)
        (alice.store / "state").unlink(missing_ok=True)
        clock.set(now)
        answers: list[str] = []
        for phone in phones:
            # Without a state, the present step counts as used. The next one is the first that works.
            answers += 2 * oathtool(phone, now // int(str(phone.record["period"])) + 1)
        outcomes = service.log_in_often(alice, *answers, attempts=len(answers))
        assert [outcome.result for outcome in outcomes] == len(phones) * [PAM_SUCCESS, PAM_AUTH_ERR]


@pytest.mark.parametrize(("period", "window"), [(1, 20), (2, 20), (30, 1), (299, 1), (300, 1)])
def test_totp__of_the_shortest_and_longest_periods_works_by_the_real_clock(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog, period: int, window: int
) -> None:
    phone = alice.enrol(installed, f"--period={period}", NO_CODES)
    service = pam.service(f"window={window}")
    old = oathtool(phone, int(time.time()) // period - 2 * window - 1)[0]
    code = phone.totp()
    for answer, result in ((old, 7), (code, 0), (code, 7), (phone.totp(1), 0)):
        assert service.log_in(alice, answer).result == result
    assert system_log.reasons() == ["mismatch", "accepted", "replayed", "accepted"]


# ---- window and look-ahead


@pytest.mark.parametrize("window", [0, 1, 5, 20])
@pytest.mark.parametrize("second", [0, 29], ids=["first_second", "last_second"])
def test_totp__window_ends_where_it_says(
    installed: Installation, pam: Pam, alice: Person, clock: Clock, system_log: SystemLog, window: int, second: int
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    step = 56_666_666
    clock.set(step * 30 + second)
    service = pam.with_backend(clock.backend, f"window={window}")
    codes = oathtool(phone, step - window - 1, 2 * window + 3)
    for outside in (codes[0], codes[-1]):
        assert service.log_in(alice, outside).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch", "mismatch"]
    for inside in codes[1:-1]:
        assert service.log_in(alice, inside).result == PAM_SUCCESS


def test_totp__window_of_the_default_is_one_step_each_side(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    """By the machine's own clock."""
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    codes = oathtool(phone, steady_step(300) - 2, 5)
    for code, result in zip(codes, (7, 0, 0, 0, 7), strict=True):
        assert service.log_in(alice, code).result == result
    assert system_log.reasons() == ["mismatch", *3 * ["accepted"], "mismatch"]


def test_totp__no_code_of_the_window_works_after_a_later_one(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    codes = oathtool(phone, steady_step(300) - 3, 7)
    service = pam.service("window=3")
    assert service.log_in(alice, codes[5]).result == PAM_SUCCESS
    for code in codes[:6]:
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["accepted", *6 * ["replayed"]]
    assert service.log_in(alice, codes[6]).result == PAM_SUCCESS


@pytest.mark.claim("A used code stays used when the token file comes back from a backup, or the clock is set back.")
def test_totp__clock_set_back_brings_no_used_code_back(
    installed: Installation, pam: Pam, alice: Person, clock: Clock, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    step = 56_666_666
    service = pam.with_backend(clock.backend)
    earlier, now, later = oathtool(phone, step - 1, 3)
    clock.set(step * 30)
    assert service.log_in(alice, now).result == PAM_SUCCESS
    clock.set((step - 1) * 30)
    for code in (earlier, now):
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    clock.set(step * 30)
    assert service.log_in(alice, later).result == PAM_SUCCESS
    clock.set(0)
    assert service.log_in(alice, later).result == PAM_AUTH_ERR
    clock.set(-30)
    assert service.log_in(alice, later).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["accepted", "replayed", "replayed", "accepted", "mismatch", "mismatch"]


@pytest.mark.parametrize("look_ahead", [1, 10, 100])
def test_hotp__look_ahead_ends_where_it_says(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog, look_ahead: int
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, 2 * look_ahead + 2)
    service = pam.service(f"look_ahead={look_ahead}")
    for _ in range(2):
        assert service.log_in(alice, codes[look_ahead]).result == PAM_AUTH_ERR
    assert service.log_in(alice, codes[look_ahead - 1]).result == PAM_SUCCESS
    assert service.log_in(alice, codes[2 * look_ahead]).result == PAM_AUTH_ERR
    assert service.log_in(alice, codes[2 * look_ahead - 1]).result == PAM_SUCCESS
    assert system_log.reasons() == ["mismatch", "mismatch", "accepted", "mismatch", "accepted"]


def test_hotp__codes_passed_over_never_work(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, 10)
    assert service.log_in(alice, codes[9]).result == PAM_SUCCESS
    for code in codes:
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["accepted", *10 * ["replayed"]]


def recorded(state: Path) -> set[bytes]:
    """Read the used codes in the newer half of a state file."""
    halves = [state.read_bytes()[place : place + SLOT_BYTES] for place in (0, SLOT_BYTES)]
    newer = max(halves, key=lambda half: int.from_bytes(half[8:16], "big"))
    return {line for line in newer[18:].split(b"\n") if line.startswith((b"last", b"spent"))}


def test_hotp__wrong_code_never_moves_the_counter(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    state = alice.store / "state"
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
    before = recorded(state)
    answers = [wrong_code(phone), "12345", "ABCD-EFGH-JKMN", phone.hotp_at(0), phone.hotp_at(500)]
    for outcome in service.log_in_often(alice, *2 * answers, attempts=2 * len(answers)):
        assert outcome.result == PAM_AUTH_ERR
    assert recorded(state) == before
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_totp__wrong_code_changes_nothing(service: Service, alice: Person, phone: Phone) -> None:
    state = alice.store / "state"
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    before = recorded(state), state.stat().st_ino
    for answer in (wrong_code(phone), phone.totp(), "x"):
        assert service.log_in(alice, answer).result == PAM_AUTH_ERR
    assert (recorded(state), state.stat().st_ino) == before


# ---- how a code is typed


@pytest.mark.parametrize(
    "typed", ["123 456", " 123456", "123456 ", "1 2 3 4 5 6", "123    456", "   12 34 56   ", "123456" + 58 * " "]
)
def test_totp__spaces_in_a_code_do_not_matter(
    installed: Installation, pam: Pam, alice: Person, clock: Clock, typed: str
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    clock.set(1_700_000_000)
    (code,) = oathtool(phone, 1_700_000_000 // 30)
    template = typed.translate(str.maketrans("123456", code))
    assert pam.with_backend(clock.backend).log_in(alice, template).result == PAM_SUCCESS


def test_totp__zeros_at_the_front_are_part_of_the_code(
    installed: Installation, pam: Pam, alice: Person, clock: Clock, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    step, code = next(
        (step, code) for step, code in enumerate(oathtool(phone, 1, 1000), start=1) if code.startswith("0")
    )
    clock.set(step * 30)
    service = pam.with_backend(clock.backend)
    for answer, result in ((code[1:], 7), ("0" + code, 7), (code, 0)):
        assert service.log_in(alice, answer).result == result
    assert system_log.reasons() == ["malformed", "mismatch", "accepted"]


# ---- recovery codes


@pytest.mark.parametrize(
    "spell",
    [
        str,
        str.lower,
        str.swapcase,
        lambda code: code.replace("-", ""),
        lambda code: code.replace("-", " "),
        lambda code: " ".join(code.lower().replace("-", "")),
        lambda code: f"  {code}  ",
        lambda code: code.replace("-", " - "),
        lambda code: code.replace("-", "") + "-",
    ],
    ids=["as_shown", "lower", "swapped", "plain", "spaces", "spelled", "around", "wide", "hyphen_behind"],
)
def test_recovery__code_is_accepted_in_any_case_and_spacing_once(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog, spell: Callable[[str], str]
) -> None:
    (code,) = alice.enrol(installed, "--recovery-codes=1").recovery_codes
    assert service.log_in(alice, spell(code)).result == PAM_SUCCESS
    for again in (code, spell(code), code.lower().replace("-", "")):
        assert service.log_in(alice, again).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["recovery", *3 * ["replayed"]]


@pytest.mark.lockout("the phone is lost, and the user has recovery codes")
def test_recovery__person_is_told_how_many_are_left(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    codes = alice.enrol(installed, "--recovery-codes=3").recovery_codes
    said = []
    for code in codes:
        outcome = service.log_in(alice, code)
        assert outcome.messages[:-1] == PROMPT
        said.append(outcome.messages[-1])
    assert [style for style, _ in said] == 3 * [TEXT_INFO]
    assert [[word for word in text.split() if word.isdigit()] for _, text in said] == [["2"], ["1"], ["0"]]
    assert ["codes" in text for _, text in said] == [True, False, True]
    assert [line["detail"] for line in system_log.outcomes()] == ['"left=2"', '"left=1"', '"left=0"']


def test_recovery__person_is_told_nothing_where_the_application_is_silent(
    installed: Installation, service: Service, alice: Person
) -> None:
    codes = alice.enrol(installed, "--recovery-codes=2").recovery_codes
    outcome = service.log_in(alice, codes[0], options=["--silent"])
    assert outcome.result == PAM_SUCCESS
    assert outcome.messages == PROMPT
    assert service.log_in(alice, codes[0], options=["--silent"]).result == PAM_AUTH_ERR


def test_recovery__refused_one_does_not_show_how_many_are_left(
    installed: Installation, service: Service, alice: Person
) -> None:
    (code,) = alice.enrol(installed, "--recovery-codes=1").recovery_codes
    service.log_in(alice, code)
    assert service.log_in(alice, code).messages == PROMPT


def test_recovery__codes_and_otps_do_not_use_each_other_up(
    installed: Installation, service: Service, alice: Person
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=3")
    first, second, third = phone.recovery_codes
    attempts = [(third, 0), (phone.totp(), 0), (first, 0), (third, 7), (phone.totp(1), 0), (second, 0), (first, 7)]
    for answer, result in attempts:
        assert service.log_in(alice, answer).result == result


def test_recovery__codes_of_an_earlier_enrolment_do_not_work(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    (old,) = alice.enrol(installed, "--recovery-codes=1").recovery_codes
    (new,) = alice.enrol(installed, "--recovery-codes=1", "--force").recovery_codes
    assert service.log_in(alice, old).result == PAM_AUTH_ERR
    assert service.log_in(alice, new).result == PAM_SUCCESS
    assert system_log.reasons() == ["mismatch", "recovery"]


def test_recovery__code_hashed_by_another_program_works(
    installed: Installation, service: Service, alice: Person
) -> None:
    """The token file holds scrypt (RFC 7914) of the 12 characters."""
    alice.enrol(installed, "--recovery-codes=1")
    path = alice.store / "tokens"
    document = json.loads(path.read_text())
    salt = bytes.fromhex(document["recovery"]["salt"])
    entry = hashlib.scrypt(b"9KQT4HAW7XEC", salt=salt, n=1024, r=8, p=1, dklen=16)
    document["recovery"] = {"scrypt": [1024, 8, 1], "salt": salt.hex(), "hashes": [entry.hex()]}
    path.write_text(json.dumps(document))
    assert service.log_in(alice, "9kqt-4haw-7xec").result == PAM_SUCCESS
    assert service.log_in(alice, "9kqt-4haw-7xec").result == PAM_AUTH_ERR


# ---- what was used stays used


def _delete(state: Path) -> None:
    state.unlink()


def _empty(state: Path) -> None:
    os.truncate(state, 0)


@pytest.mark.lockout(
    "the state file is gone or empty",
    shows="reason=replayed",
    cure="wait for the next code",
)
@pytest.mark.parametrize("lose", [_delete, _empty])
@pytest.mark.lockout("the state of a TOTP token is lost")
def test_lost_state__totp_refuses_the_present_code_and_accepts_the_next(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog, lose: Callable[[Path], None]
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    before, present, following, last = oathtool(phone, steady_step(300) - 1, 4)
    service = pam.service("window=2")
    assert service.log_in(alice, present).result == PAM_SUCCESS
    lose(alice.store / "state")
    for code, result in ((before, 7), (present, 7), (following, 0), (following, 7), (present, 7), (last, 0)):
        assert service.log_in(alice, code).result == result
    denied = ["replayed", "replayed", "accepted", "replayed", "replayed", "accepted"]
    assert system_log.reasons() == ["accepted", *denied]
    status = (alice.store / "state").stat()
    assert (status.st_uid, status.st_gid, status.st_mode, status.st_size) == (alice.uid, alice.gid, 0o100600, 16384)


@pytest.mark.parametrize("lose", [_delete, _empty])
def test_lost_state__totp_works_again_even_after_a_wrong_first_answer(
    installed: Installation, pam: Pam, alice: Person, clock: Clock, lose: Callable[[Path], None]
) -> None:
    """A wrong answer changes nothing. A right one does, and steps that were past by then stay closed."""
    phone = alice.enrol(installed, NO_CODES)
    step = 56_666_666
    codes = oathtool(phone, step, 4)
    service = pam.with_backend(clock.backend)
    lose(alice.store / "state")
    clock.set(step * 30)
    assert service.log_in(alice, wrong_code(phone)).result == PAM_AUTH_ERR
    clock.set((step + 2) * 30)
    for code, result in ((codes[1], 7), (codes[0], 7), (codes[2], 7), (codes[3], 0), (codes[3], 7)):
        assert service.log_in(alice, code).result == result


@pytest.mark.lockout(
    "the state file of a HOTP token is gone or empty",
    shows="reason=mismatch",
    cure="type two codes in a row",
)
@pytest.mark.parametrize("lose", [_delete, _empty])
@pytest.mark.lockout("the state of a HOTP token is lost")
def test_lost_state__hotp_takes_two_consecutive_codes(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog, lose: Callable[[Path], None]
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
    lose(alice.store / "state")
    for result in (PAM_AUTH_ERR, PAM_SUCCESS):
        outcome = service.log_in(alice, phone.hotp())
        assert (outcome.result, outcome.messages) == (result, PROMPT)
    # From here on everything is as before.
    for counter in range(3):
        assert service.log_in(alice, phone.hotp_at(counter)).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
    assert system_log.reasons() == ["accepted", "mismatch", "accepted", *3 * ["replayed"], "accepted"]


@pytest.mark.parametrize("pair", [(0, 0), (0, 2), (1, 0), (5, 7), (7, 5), (3, 14), (11, None), (None, 11)])
def test_lost_state__hotp_refuses_codes_that_are_not_consecutive(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog, pair: tuple[int | None, int | None]
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    (alice.store / "state").unlink()
    wrong = wrong_code(phone)
    for counter in pair:
        answer = wrong if counter is None else phone.hotp_at(counter)
        assert service.log_in(alice, answer).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.hotp_at(20)).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.hotp_at(21)).result == PAM_SUCCESS
    assert system_log.reasons() == [*3 * ["mismatch"], "accepted"]


def test_lost_state__hotp_far_from_the_start_is_found_again(
    installed: Installation, service: Service, alice: Person
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    (alice.store / "state").unlink()
    for counter, result in ((4711, PAM_AUTH_ERR), (4712, PAM_SUCCESS), (4711, PAM_AUTH_ERR), (4713, PAM_SUCCESS)):
        assert service.log_in(alice, phone.hotp_at(counter)).result == result


@pytest.mark.parametrize("lose", [_delete, _empty])
@pytest.mark.parametrize("kind", ["totp", "hotp"])
def test_lost_state__recovery_codes_are_refused(
    installed: Installation,
    service: Service,
    alice: Person,
    system_log: SystemLog,
    lose: Callable[[Path], None],
    kind: str,
) -> None:
    phone = alice.enrol(installed, f"--type={kind}", *(["--period=300"] * (kind == "totp")), "--recovery-codes=2")
    used, unused = phone.recovery_codes
    assert service.log_in(alice, used).result == PAM_SUCCESS
    lose(alice.store / "state")
    for _ in range(2):
        for code in (used, unused):
            outcome = service.log_in(alice, code)
            assert (outcome.result, len(outcome.prompts)) == (PAM_AUTH_ERR, 1)
    # The token still works, by the rule for its kind. It does not make the recovery codes valid again.
    if kind == "hotp":
        assert service.log_in(alice, phone.hotp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.next()).result == PAM_SUCCESS
    assert service.log_in(alice, used).result == PAM_AUTH_ERR
    again = ["mismatch"] if kind == "hotp" else []
    assert system_log.reasons() == ["recovery", *4 * ["damaged_state"], *again, "accepted", "damaged_state"]
    (fresh,) = alice.enrol(installed, "--recovery-codes=1", "--force").recovery_codes
    assert service.log_in(alice, fresh).result == PAM_SUCCESS


@pytest.mark.parametrize("kind", ["totp", "hotp", "recovery"])
@pytest.mark.claim("A used code stays used when the token file comes back from a backup, or the clock is set back.")
def test_restored__token_file_does_not_bring_a_used_code_back(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog, kind: str
) -> None:
    kinds = {"totp": ["--period=300"], "hotp": ["--type=hotp"], "recovery": ["--period=300"]}
    phone = alice.enrol(installed, *kinds[kind], "--recovery-codes=1")
    code = phone.recovery_codes[0] if kind == "recovery" else phone.totp() if kind == "totp" else phone.hotp()
    tokens, copy = alice.store / "tokens", alice.home / "tokens.backup"
    shutil.copy2(tokens, copy)
    os.chown(copy, alice.uid, alice.gid)
    assert service.log_in(alice, code).result == PAM_SUCCESS
    # Restored from the copy; then renamed away and back.
    copy.rename(tokens)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    tokens.rename(copy)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    copy.rename(tokens)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert [reason for reason in system_log.reasons() if reason != "not_enrolled"][1:] == ["replayed", "replayed"]
    if kind != "recovery":
        assert service.log_in(alice, phone.next()).result == PAM_SUCCESS


@pytest.mark.parametrize("options", [[], ["--name=other"], ["--digits=8"], ["--algorithm=SHA256"]])
def test_enrolled_again__same_key_does_not_bring_a_used_step_back(
    installed: Installation, service: Service, alice: Person, tmp_path: Path, system_log: SystemLog, options: list[str]
) -> None:
    """A used step stays used, even if other facts about the key's token are written differently."""
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    key = tmp_path / "key"
    key.write_text(str(phone.record["key"]))
    steady_step(300)
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    if "--name=other" in options:
        (alice.store / "tokens").unlink()  # a second token could not have the same key
    phone = alice.enrol(installed, "--period=300", NO_CODES, f"--key-file={key}", "--force", *options)
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    assert system_log.reasons() == ["accepted", "replayed", "accepted"]


def test_enrolled_again__new_key_works_and_the_old_one_does_not(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    old = alice.enrol(installed, "--period=300", NO_CODES)
    assert service.log_in(alice, old.totp()).result == PAM_SUCCESS
    new = alice.enrol(installed, "--period=300", NO_CODES, "--force")
    assert service.log_in(alice, old.totp(1)).result == PAM_AUTH_ERR
    assert service.log_in(alice, new.totp()).result == PAM_SUCCESS
    assert system_log.reasons() == ["accepted", "mismatch", "accepted"]


# ---- changes while the user types


def test_during__enrolment_with_a_new_key_is_honoured(
    installed: Installation, service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    with Waiting(service, alice) as first, Waiting(service, alice) as second:
        first.wait_for_prompt()
        second.wait_for_prompt()
        new = alice.enrol(installed, "--period=300", NO_CODES, "--force")
        assert first.answer(phone.totp()).result == PAM_AUTH_ERR
        assert second.answer(new.totp()).result == PAM_SUCCESS
    assert system_log.reasons() == ["mismatch", "accepted"]


def test_during__enrolment_makes_old_recovery_codes_worthless(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    (code,) = alice.enrol(installed, "--recovery-codes=1").recovery_codes
    with Waiting(service, alice) as client:
        client.wait_for_prompt()
        alice.enrol(installed, "--recovery-codes=1", "--force")
        assert client.answer(code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch"]


def test_during__new_recovery_codes_work_at_once(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    alice.enrol(installed, "--recovery-codes=1")
    with Waiting(service, alice) as client:
        client.wait_for_prompt()
        (code,) = alice.enrol(installed, "--recovery-codes=1", "--force").recovery_codes
        assert client.answer(code).result == PAM_SUCCESS


def test_during__token_file_that_is_removed_denies(
    pam: Pam, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    with Waiting(pam.only_ignore("nullok"), alice) as client:
        client.wait_for_prompt()
        (alice.store / "tokens").unlink()
        assert client.answer(phone.totp()).result == PAM_AUTH_ERR
    (fields,) = system_log.outcomes()
    assert fields["reason"] == "not_enrolled"
    assert "has been enrolled before, and the token file is gone" in fields["detail"]


@pytest.mark.parametrize("name", ["tokens", "state"])
def test_during__file_that_is_replaced_by_an_unsafe_one_denies(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, name: str
) -> None:
    with Waiting(service, alice) as client:
        client.wait_for_prompt()
        path = alice.store / name
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        path.chmod(0o644)
        assert client.answer(phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["insecure_file"]


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "empty"])
def test_during__state_file_that_is_replaced_denies(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, copied: bool
) -> None:
    """Otherwise two attempts could each hold the lock of a different file."""
    with Waiting(service, alice) as client:
        client.wait_for_prompt()
        state = alice.store / "state"
        data = state.read_bytes() if copied else b""
        state.unlink()
        state.write_bytes(data)
        os.chown(state, alice.uid, alice.gid)
        state.chmod(0o600)
        assert client.answer(phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["insecure_file"]


def test_during__code_that_was_used_elsewhere_in_the_meantime_is_refused(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    with Waiting(service, alice) as client:
        client.wait_for_prompt()
        assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
        assert client.answer(phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["accepted", "replayed"]


def test_during__time_that_passes_counts(
    installed: Installation, pam: Pam, alice: Person, clock: Clock, system_log: SystemLog
) -> None:
    """A code is judged by the time of the answer, not by that of the prompt."""
    phone = alice.enrol(installed, NO_CODES)
    step = 56_666_666
    codes = oathtool(phone, step, 12)
    clock.set(step * 30)
    service = pam.with_backend(clock.backend)
    with Waiting(service, alice) as first, Waiting(service, alice) as second:
        first.wait_for_prompt()
        second.wait_for_prompt()
        clock.set((step + 10) * 30)
        assert first.answer(codes[0]).result == PAM_AUTH_ERR
        assert second.answer(codes[10]).result == PAM_SUCCESS
    assert system_log.reasons() == ["mismatch", "accepted"]


# ---- several tokens


def test_several__tokens_each_work_and_each_once(service: Service, alice: Person, system_log: SystemLog) -> None:
    phones = [
        new_phone("phone", period=300),
        new_phone("laptop", period=300, algorithm="SHA512", digits=8),
        new_phone("watch", period=60, algorithm="SHA256", digits=7),
    ]
    write_tokens(alice, *phones)
    for phone in phones:  # without a state file, the present code is not accepted
        assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    codes = [phone.totp(1) for phone in phones]
    for code in codes:
        assert service.log_in(alice, code).result == PAM_SUCCESS
    for code in codes:
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    names = ["phone", "laptop", "watch"]
    outcomes = [(fields["reason"], fields["token"]) for fields in system_log.outcomes()]
    assert outcomes == [(reason, name) for reason in ("replayed", "accepted", "replayed") for name in names]


def test_several__codes_of_one_token_do_not_use_up_anothers(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    first = alice.enrol(installed, "--period=300", NO_CODES)
    second, button = new_phone("second", period=300), new_phone("button", type="hotp", counter=0)
    write_tokens(alice, first, second, button)
    # The HOTP token has never been used. Its counter is unknown, so it takes two codes in a row.
    for result in (PAM_AUTH_ERR, PAM_SUCCESS):
        assert service.log_in(alice, button.hotp()).result == result
    for code in (first.totp(), second.totp(1), button.hotp(), first.totp(1), button.hotp()):
        assert service.log_in(alice, code).result == PAM_SUCCESS
    for code in (first.totp(1), second.totp(1), button.hotp_at(0), button.hotp_at(3)):
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch", *6 * ["accepted"], *4 * ["replayed"]]


def test_several__removal_of_one_token_keeps_the_others(service: Service, alice: Person, system_log: SystemLog) -> None:
    kept, lost = new_phone("kept", period=300), new_phone("lost", period=300)
    write_tokens(alice, kept, lost)
    assert service.log_in(alice, wrong_code(kept)).result == PAM_AUTH_ERR
    assert service.log_in(alice, lost.totp(1)).result == PAM_SUCCESS
    write_tokens(alice, kept)
    assert service.log_in(alice, lost.totp(1)).result == PAM_AUTH_ERR
    assert service.log_in(alice, kept.totp(1)).result == PAM_SUCCESS
    write_tokens(alice, lost, kept)
    for phone in (lost, kept):
        assert service.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch", "accepted", "mismatch", "accepted", "replayed", "replayed"]
