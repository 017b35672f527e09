"""Run the whole dialogue of `softtoken-enroll` in a terminal, and then a real login."""

from __future__ import annotations

import json
import re
import stat

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import (
    CODE_PROMPT,
    ENTER_PROMPT,
    Enroller,
    record_of,
    recovery_codes_in,
    uri_in,
)
from tests.support.installation import Installation
from tests.support.screen import read_qr_codes
from tests.support.system_log import SystemLog

STATE_BYTES = 16384  # two slots of 8 KiB


def test_enroll__dialogue_shows_key_asks_for_a_code_and_shows_recovery_codes(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--period=300", person=alice) as dialogue:
        introduction = dialogue.expect(CODE_PROMPT)
        uri = uri_in(introduction)
        assert introduction.startswith(f"Enrolling {alice.name} on ")
        assert read_qr_codes(introduction) == [uri]
        (key,) = re.findall(r"^Key:  ((?:[A-Z2-7]{4} )*[A-Z2-7]{1,4})\r$", introduction, re.MULTILINE)
        assert key.replace(" ", "") == record_of(uri)["key"]
        assert recovery_codes_in(introduction) == []

        dialogue.type(dialogue.phone().totp())
        dialogue.expect("Right. This code cannot be used again: use the next one to log in.")
        recovery = dialogue.expect(ENTER_PROMPT)
        assert len(set(recovery_codes_in(recovery))) == 10
        assert not (alice.store / "tokens").exists()

        dialogue.type("")
        dialogue.expect(f'Done. {alice.name} is enrolled with token "phone", in {alice.store}.')
        assert dialogue.finish() == 0
        assert len(recovery_codes_in(dialogue.transcript)) == 10, "they are shown once"


def test_enroll__files_are_the_users_and_closed_to_others(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--recovery-codes=1", person=alice, umask=0) as dialogue:
        dialogue.confirm()
    found = {path.name: path.stat() for path in [alice.store, *alice.store.iterdir()]}
    assert {name: stat.filemode(status.st_mode) for name, status in found.items()} == {
        ".softtoken": "drwx------",
        "tokens": "-rw-------",
        "state": "-rw-------",
    }
    assert {(status.st_uid, status.st_gid) for status in found.values()} == {(alice.uid, alice.gid)}
    assert found["state"].st_size == STATE_BYTES


@pytest.mark.parametrize("umask", [0, 0o777])
def test_enroll__callers_umask_changes_nothing(enroller: Enroller, alice: Person, service: Service, umask: int) -> None:
    with enroller.start("--period=300", "--recovery-codes=1", person=alice, umask=umask) as dialogue:
        phone = dialogue.confirm()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in alice.store.iterdir()}
    assert modes == {0o600}
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


def test_enroll__confirming_code_is_spent_and_the_next_one_logs_in(
    enroller: Enroller, alice: Person, service: Service, system_log: SystemLog
) -> None:
    with enroller.start("--period=300", "--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        phone = dialogue.phone()
        code = phone.totp()
        dialogue.type(code)
        dialogue.expect(ENTER_PROMPT)
        dialogue.type("")
        assert dialogue.finish() == 0
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    outcomes = [fields for fields in system_log.outcomes() if fields["user"] == alice.name]
    assert [fields["reason"] for fields in outcomes] == ["replayed", "accepted"]


def test_enroll__confirming_hotp_code_is_spent_and_the_next_one_logs_in(
    enroller: Enroller, alice: Person, service: Service
) -> None:
    with enroller.start("--type=hotp", "--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        phone = dialogue.phone()
        # Some apps have advanced the counter before the user looks.
        codes = [phone.hotp() for _ in range(4)]
        dialogue.type(codes[-1])
        dialogue.expect(ENTER_PROMPT)
        dialogue.type("")
        assert dialogue.finish() == 0
    assert service.log_in(alice, codes[-1]).result == PAM_AUTH_ERR
    assert service.log_in(alice, codes[0]).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_enroll__every_shown_recovery_code_logs_in_once(enroller: Enroller, alice: Person, service: Service) -> None:
    with enroller.start("--recovery-codes=3", person=alice) as dialogue:
        codes = dialogue.confirm().recovery_codes
    assert len(codes) == 3
    for code in codes:
        assert service.log_in(alice, code).result == PAM_SUCCESS
        assert service.log_in(alice, code).result == PAM_AUTH_ERR


@pytest.mark.parametrize("spelling", ["{0} {1}", " {0}{1} ", "{0}  {1}"])
def test_enroll__code_may_be_typed_with_spaces(enroller: Enroller, alice: Person, spelling: str) -> None:
    with enroller.start("--period=300", "--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        code = dialogue.phone().totp()
        dialogue.type(spelling.format(code[:3], code[3:]))
        dialogue.expect(ENTER_PROMPT)


def test_enroll__without_recovery_codes_there_is_nothing_to_keep(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--period=300", "--recovery-codes=0", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        dialogue.type(dialogue.phone().totp())
        dialogue.expect("Done.")
        assert dialogue.finish() == 0
        assert "ecovery" not in dialogue.transcript
        assert ENTER_PROMPT not in dialogue.transcript


def test_enroll__name_is_kept_in_the_token_file(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--name=Key é №7", "--recovery-codes=1", person=alice) as dialogue:
        dialogue.confirm()
        assert 'token "Key é №7"' in dialogue.transcript
    tokens = json.loads((alice.store / "tokens").read_bytes())["tokens"]
    assert [token["name"] for token in tokens] == ["Key é №7"]


def test_enroll__json_goes_to_stdout_and_the_dialogue_to_stderr(
    enroller: Enroller, alice: Person, service: Service
) -> None:
    with enroller.start("--json", "--period=300", "--recovery-codes=1", person=alice, piped=[1]) as dialogue:
        phone = dialogue.confirm()
        stdout = dialogue.file(1)
        assert read_qr_codes(dialogue.transcript) == [uri_in(dialogue.transcript)]
        assert "\x1b[" in dialogue.transcript, "the dialogue's end is a terminal and has colours"
    record = json.loads(stdout)
    assert stdout.count("\n") == 1
    assert record["uri"] == uri_in(dialogue.transcript)
    assert record["recovery_codes"] == phone.recovery_codes
    assert service.log_in(alice, Phone(record).totp(1)).result == PAM_SUCCESS


def test_enroll__results_go_to_stdout_and_questions_to_stderr(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--period=300", "--recovery-codes=1", person=alice, piped=[2]) as dialogue:
        dialogue.expect("URI:  ")
        dialogue.expect("\r\n")
        dialogue.type(dialogue.phone().totp())
        dialogue.expect("Keep them on paper")
        dialogue.type("")
        assert dialogue.finish() == 0
        stderr = dialogue.file(2)
    shown, codes = dialogue.transcript, recovery_codes_in(dialogue.transcript)
    assert [question in stderr for question in (CODE_PROMPT, "Right.", ENTER_PROMPT, "Done.")] == [True] * 4
    assert [secret in stderr for secret in (*codes, str(record_of(uri_in(shown))["key"]))] == [False] * (len(codes) + 1)


def test_enroll__no_secret_in_the_log_of_enrolment_and_login(
    enroller: Enroller, installed: Installation, alice: Person, service: Service, system_log: SystemLog
) -> None:
    with enroller.start("--period=300", "--recovery-codes=1", person=alice) as dialogue:
        phone = dialogue.confirm()
    codes = [phone.totp(0), phone.totp(1)]
    for answer in (*codes, phone.recovery_codes[0]):
        service.log_in(alice, answer)
    assert len([fields for fields in system_log.outcomes() if fields["user"] == alice.name]) == 3
    everything = "\n".join(system_log.lines)
    for secret in (*codes, *phone.recovery_codes, str(phone.record["key"])):
        assert secret not in everything
