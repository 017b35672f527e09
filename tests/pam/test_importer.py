"""Import files of other modules: codes that were used there stay used, and the next code there is the next one here.

The real google-authenticator and pam_oath first log a user in. So counters, used codes and drift are in their files as
they write them. Codes are computed by oathtool.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pam_softtoken.interchange import reader
from pam_softtoken.otp.token import HOTPToken, TOTPToken
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.pam_scene import ROOT, steady_step
from tests.support.peers import KEY_HEX, Google, Oath, Stack, hotp, totp


def test_google__file_that_was_never_used(outside: Path, make_service: Stack) -> None:
    google = Google(outside / "file", make_service, "-t", "-d", "-r3", "-R30", "-w17", "-S60", "-e10")
    record = google.imported()
    assert isinstance(record.token, TOTPToken)
    assert (record.token.period_s, record.last, record.drift) == (60, None, 0)
    assert record.scratch_codes == tuple(google.scratch_codes)
    assert len(record.scratch_codes) == 10
    assert len(record.token.secret.reveal()) == 16
    assert any("window of 17 codes" in note for note in record.notes)


def test_google__used_time_steps_and_scratch_codes_are_carried_over(outside: Path, make_service: Stack) -> None:
    google = Google(outside / "file", make_service, "-t", "-d", "-u", "-w17", "-e3")
    step = steady_step(30)
    for code in (totp(google.key_hex, step), totp(google.key_hex, step + 3), google.scratch_codes[1]):
        assert google.log_in(code) == PAM_SUCCESS
    assert google.log_in(totp(google.key_hex, step + 3)) == PAM_AUTH_ERR
    record = google.imported()
    assert record.last == step + 3
    assert record.scratch_codes == (google.scratch_codes[0], google.scratch_codes[2])
    for code in record.scratch_codes:
        assert google.log_in(code) == PAM_SUCCESS
    assert google.imported().scratch_codes == ()
    assert google.log_in(record.token.otp_at(step + 4)) == PAM_SUCCESS


def test_google__counter_is_the_next_one_after_right_and_wrong_codes(outside: Path, make_service: Stack) -> None:
    google = Google(outside / "file", make_service, "-c", "-u", "-w5", "-e0")
    for code, result, counter in (
        (hotp(google.key_hex, 1), PAM_SUCCESS, 2),
        (hotp(google.key_hex, 4), PAM_SUCCESS, 5),
        (hotp(google.key_hex, 4), PAM_AUTH_ERR, 6),  # it counts wrong codes, too
    ):
        assert google.log_in(code) == result
        record = google.imported()
        assert isinstance(record.token, HOTPToken)
        assert (record.token.counter, record.last) == (counter, counter - 1)
    assert google.log_in(record.token.otp_at(5)) == PAM_AUTH_ERR
    counter = google.imported().token.counter  # type: ignore[attr-defined]
    assert google.log_in(record.token.otp_at(counter)) == PAM_SUCCESS


@pytest.mark.parametrize("cut", [26, 27, 28, 29])
def test_google__key_of_any_length_makes_the_codes_of_the_module(outside: Path, make_service: Stack, cut: int) -> None:
    google = Google(outside / "file", make_service, "-t", "-d", "-u", "-W", "-e0")
    key, _, rest = google.path.read_text().partition("\n")
    google.path.write_text(f"{(key * 2)[: cut - 1]}7\n{rest}")
    (record,) = reader.read(google.path.read_bytes(), path="file", now=int(time.time())).found
    assert google.log_in(record.token.otp_at(steady_step(30))) == PAM_SUCCESS


@pytest.mark.parametrize("drift", [20, -7, 1400, -1400])
def test_google__drift_is_that_of_the_token(outside: Path, make_service: Stack, drift: int) -> None:
    google = Google(outside / "file", make_service, "-t", "-d", "-u", "-W", "-e0")
    step = steady_step(30)
    # Two codes with the same offset at other times; the third one convinces the module.
    google.insert(f"RESETTING_TIME_SKEW {step - 3}{drift:+} {step - 1}{drift:+}")
    assert google.log_in(totp(google.key_hex, step + drift)) == PAM_SUCCESS
    assert google.log_in(totp(google.key_hex, step + drift + 1)) == PAM_SUCCESS
    record = google.imported()
    assert (record.drift, record.last) == (drift, step + drift + 1)


def test_google__grace_time_is_reported(outside: Path, make_service: Stack) -> None:
    google = Google(outside / "file", make_service, "-t", "-d", "-u", "-W", "-e0")
    step = steady_step(30)
    service = make_service(
        f"auth required pam_google_authenticator.so secret={google.path} user=root grace_period=99\n"
    )
    answer = totp(google.key_hex, step)
    assert service.log_in(ROOT, answer, options=["--item=rhost=192.0.2.7"]).result == PAM_SUCCESS
    assert '" LAST0 192.0.2.7' in google.path.read_text()
    assert any("need no code for a while" in note for note in google.imported().notes)


def test_google__short_key_that_its_module_accepts_is_refused(outside: Path, make_service: Stack) -> None:
    google = Google(outside / "file", make_service, "-t", "-D", "-u", "-W", "-e0")
    google.path.chmod(0o600)
    google.path.write_text('GEZDGNBVGY3TQOJQ\n" TOTP_AUTH\n')
    assert google.log_in(totp(KEY_HEX[:20], steady_step(30))) == PAM_SUCCESS
    with pytest.raises(reader.ImportFailed, match="the key has 80 bits"):
        google.imported()


def test_oath__counter_is_the_next_one_before_and_after_the_first_code(outside: Path, make_service: Stack) -> None:
    oath = Oath(outside / "users", make_service, "HOTP", "3")
    before = oath.imported()
    assert isinstance(before.token, HOTPToken)
    assert (before.token.counter, before.last) == (3, 2)
    assert oath.log_in(hotp(KEY_HEX, before.token.counter)) == PAM_SUCCESS
    after = oath.imported()
    assert isinstance(after.token, HOTPToken)
    assert (after.token.counter, after.last) == (4, 3)
    assert oath.log_in(after.token.otp_at(3)) == PAM_AUTH_ERR
    assert oath.log_in(hotp(KEY_HEX, 8)) == PAM_SUCCESS
    assert oath.imported().last == 8
    assert oath.log_in(after.token.otp_at(9)) == PAM_SUCCESS


@pytest.mark.parametrize(("kind", "period_s"), [("HOTP/T30", 30), ("HOTP/T60", 60)])
def test_oath__used_time_step_is_carried_over(outside: Path, make_service: Stack, kind: str, period_s: int) -> None:
    oath = Oath(outside / "users", make_service, kind)
    step = steady_step(period_s)
    assert oath.imported().last is None
    assert oath.log_in(totp(KEY_HEX, step + 2)) == PAM_SUCCESS
    record = oath.imported()
    assert isinstance(record.token, TOTPToken)
    assert (record.token.period_s, record.last) == (period_s, step + 2)
    assert oath.log_in(record.token.otp_at(step + 2)) == PAM_AUTH_ERR
    assert oath.log_in(record.token.otp_at(step + 3)) == PAM_SUCCESS
    assert oath.imported().last == step + 3


def test_oath__used_time_step_that_has_passed_needs_no_record(outside: Path, make_service: Stack) -> None:
    oath = Oath(outside / "users", make_service, "HOTP/T30")
    step = steady_step(30)
    assert oath.log_in(totp(KEY_HEX, step - 2)) == PAM_SUCCESS
    record = oath.imported()
    assert record.last is None or record.last <= step


@pytest.mark.parametrize("kind", ["HOTP", "HOTP/E", "HOTP/E/6", "HOTP/E/7", "HOTP/E/8"])
def test_oath__types_that_count(outside: Path, make_service: Stack, kind: str) -> None:
    oath = Oath(outside / "users", make_service, kind)
    record = oath.imported()
    assert oath.log_in(record.token.otp_at(0)) == PAM_SUCCESS
    assert oath.imported().last == 0


@pytest.mark.parametrize(
    "kind", [f"HOTP/T{period}{digits}" for period in (30, 60) for digits in ("", "/6", "/7", "/8")]
)
def test_oath__types_that_go_by_the_clock(outside: Path, make_service: Stack, kind: str) -> None:
    oath = Oath(outside / "users", make_service, kind)
    record = oath.imported()
    assert isinstance(record.token, TOTPToken)
    assert oath.log_in(record.token.otp_at(steady_step(record.token.period_s))) == PAM_SUCCESS


@pytest.mark.parametrize("kind", ["HOTP/T45", "HOTP/E/9", "hotp", "HOTP/6", "TOTP"])
def test_oath__types_that_its_module_does_not_take_are_refused(outside: Path, make_service: Stack, kind: str) -> None:
    oath = Oath(outside / "users", make_service, kind)
    assert oath.log_in(hotp(KEY_HEX, 0)) != PAM_SUCCESS
    with pytest.raises(reader.ImportFailed):
        reader.read(oath.path.read_bytes(), path="users", now=int(time.time()), kind="pam_oath")
