"""Run `softtoken-enroll --list`, for a user and for a program: no key is shown, and nothing is changed."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import time
import unicodedata
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import ENVIRONMENT, OTHERS_CODE_PROMPT, Enroller
from tests.support.installation import Installation
from tests.support.listing import listing

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d"
UTC = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's first token. The second one, "spare", is time-based."""
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=3")
    alice.enrol(installed, "--name=spare", "--period=300")
    return phone


def set_created(person: Person, *times: int) -> None:
    """Set an earlier creation date of tokens."""
    file = person.store / "tokens"
    document = json.loads(file.read_bytes())
    for token, created in zip(document["tokens"], times, strict=True):
        token["created"] = created
    file.write_text(json.dumps(document))


def test_list__is_a_table_of_tokens_and_the_recovery_codes_left(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    done = enroller.run("--list", person=alice)
    assert (done.status, done.stderr) == (0, "")
    header, first, second, gap, rest = done.stdout.splitlines()
    assert re.split(r" {2,}", header) == ["name", "type", "created", "last used"]
    assert re.fullmatch(rf"phone  hotp  {TIME}  never", first)
    assert re.fullmatch(rf"spare  totp  {TIME}  never", second)
    assert (gap, rest) == ("", "2 of 3 recovery codes left")
    assert [line.index("totp" if "totp" in line else "hotp") for line in (first, second)] == [header.index("type")] * 2


def test_list__times_are_in_the_zone_of_the_user(enroller: Enroller, alice: Person, phone: Phone) -> None:
    # POSIX.1-2017, 8.3, TZ: the sign is that of the offset to be added to get UTC. 1111111109 is 2005-03-18 01:58:29
    # UTC: RFC 6238, appendix B.
    set_created(alice, 1111111109, 1111111109)
    for zone, shown in (("UTC0", "2005-03-18 01:58"), ("AST4", "2005-03-17 21:58"), ("IST-5:30", "2005-03-18 07:28")):
        done = enroller.run("--list", person=alice, environment={**ENVIRONMENT, "TZ": zone})
        assert re.findall(TIME, done.stdout) == [shown, shown]


def test_list__json_has_the_same_facts_in_utc(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    set_created(alice, 1111111109, 1111111109)
    done = enroller.run("--list", "--json", person=alice, environment={**ENVIRONMENT, "TZ": "AST4"})
    assert (done.status, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    created = "2005-03-18T01:58:29Z"  # RFC 6238, appendix B
    assert json.loads(done.stdout) == {
        "user": alice.name,
        "store": str(alice.store),
        "tokens": [
            {"name": "phone", "type": "hotp", "created": created, "last_used": None},
            {"name": "spare", "type": "totp", "created": created, "last_used": None},
        ],
        "recovery_codes": {"total": 3, "left": 2},
        "state": "ok",
    }


def test_list__last_use_is_that_of_the_last_login_or_confirmation(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    before = int(time.time())
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
    assert service.log_in(alice, phone.hotp_at(0)).result == PAM_AUTH_ERR
    with enroller.start("--name=third", "--type=hotp", "--user", alice.name) as dialogue:
        dialogue.expect(OTHERS_CODE_PROMPT.format(alice.name))
        dialogue.type(dialogue.phone().hotp())
        assert dialogue.finish() == 0
    done = enroller.run("--list", "--json", person=alice)
    used = {token["name"]: token["last_used"] for token in json.loads(done.stdout)["tokens"]}
    assert used["spare"] is None
    for name in ("phone", "third"):
        assert re.fullmatch(UTC, used[name])
        when = datetime.datetime.fromisoformat(used[name]).timestamp()
        assert before <= when <= time.time()
    table = enroller.run("--list", person=alice).stdout
    assert [len(re.findall(TIME, line)) for line in table.splitlines()[1:4]] == [2, 1, 2]


def test_list__no_key_is_shown(enroller: Enroller, alice: Person, phone: Phone) -> None:
    document = json.loads((alice.store / "tokens").read_bytes())
    secrets = [token["key"] for token in document["tokens"]] + document["recovery"]["hashes"]
    for options in ((), ("--json",)):
        done = enroller.run("--list", *options, person=alice)
        assert [secret for secret in secrets if secret in done.stdout + done.stderr] == []


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_list__changes_nothing_and_needs_no_state(
    enroller: Enroller, alice: Person, phone: Phone, options: tuple[str, ...]
) -> None:
    for step in ("all there", "no state"):
        if step == "no state":
            (alice.store / "state").unlink()
        before = listing(alice.home)
        assert enroller.run("--list", *options, person=alice).status == 0
        assert enroller.run("--list", *options, "--user", alice.name).status == 0
        assert listing(alice.home) == before


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_list__of_a_user_without_tokens_fails_and_creates_no_file(
    enroller: Enroller, alice: Person, options: tuple[str, ...]
) -> None:
    before = listing(alice.home)
    mistake = enroller.run("--list", *options, person=alice).refused()
    assert mistake.error == f"{alice.name} is not enrolled in {alice.store}"
    assert mistake.hint == "softtoken-enroll without other options enrols"
    assert listing(alice.home) == before


def test_list__fits_into_40_columns(enroller: Enroller, installed: Installation, alice: Person, phone: Phone) -> None:
    alice.enrol(installed, "--type=hotp", "--name=work laptop")
    with enroller.start("--list", person=alice, columns=40) as dialogue:
        assert dialogue.finish() == 0
        lines = dialogue.transcript.splitlines()
    assert [line for line in lines if len(line) > 40] == []
    assert lines[0] == "phone"
    assert re.fullmatch(rf"  created   {TIME}", lines[2])
    assert lines[3] == "  last used never"


def test_list__is_one_line_a_token_when_piped_however_long(
    enroller: Enroller, installed: Installation, alice: Person, phone: Phone
) -> None:
    alice.enrol(installed, "--type=hotp", "--name=" + "n" * 64)
    with enroller.start("--list", person=alice, columns=40, piped=[1]) as dialogue:
        assert dialogue.finish() == 0
        stdout = dialogue.file(1)
    assert [len(re.findall(TIME, line)) for line in stdout.splitlines()] == [0, 1, 1, 1, 0, 0]
    assert "\x1b" not in stdout


@pytest.mark.parametrize("locale", ["utf8", "latin"])
def test_list__any_name_can_be_shown(
    enroller: Enroller, alice: Person, locales: dict[str, dict[str, str]], locale: str
) -> None:
    options = ("--no-confirm", "--json", "--recovery-codes=0", "--user", alice.name)
    for name in ("電話", "Key é №7"):
        assert enroller.run(*options, f"--name={name}").status == 0
    command = [*map(str, enroller.program), "--list", "--user", alice.name]
    shown = subprocess.run(command, env=locales[locale], check=True, capture_output=True).stdout
    lines = shown.decode({"utf8": "utf-8", "latin": "latin-1"}[locale]).splitlines()
    wide = [
        sum(1 + (unicodedata.east_asian_width(each) == "W") for each in line[: line.index("totp")])
        for line in lines[1:3]
    ]
    assert wide == [lines[0].index("type")] * 2
    assert "é" in lines[2]


def test_list__damaged_state_is_reported(enroller: Enroller, alice: Person, phone: Phone) -> None:
    (alice.store / "state").write_bytes(b"x" * 8192)
    done = enroller.run("--list", person=alice)
    assert done.status == 0
    assert [line.endswith("  unknown") for line in done.stdout.splitlines()[1:3]] == [True, True]
    assert done.stdout.endswith("3 recovery codes, none of them valid: the state file is damaged\n")
    record = json.loads(enroller.run("--list", "--json", person=alice).stdout)
    assert (record["state"], record["recovery_codes"]["left"]) == ("damaged", None)


def test_list__lost_state_is_reported(enroller: Enroller, alice: Person, phone: Phone) -> None:
    (alice.store / "state").unlink()
    assert "it is not known which were used" in enroller.run("--list", person=alice).stdout
    assert json.loads(enroller.run("--list", "--json", person=alice).stdout)["state"] == "missing"


def test_list__damaged_token_file_is_an_error(enroller: Enroller, alice: Person, phone: Phone) -> None:
    (alice.store / "tokens").write_text("{")
    assert "tokens" in enroller.run("--list", person=alice).refused().error


def test_list__works_in_a_read_only_home(
    enroller: Enroller, installed: Installation, alice: Person, small_home: Path, service: Service
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=1")
    subprocess.run(["mount", "-o", "remount,ro", small_home], check=True)
    done = enroller.run("--list", person=alice)
    assert (done.status, done.stderr) == (0, "")
    assert "1 of 1 recovery codes left" in done.stdout
    # After a login there, root has a record that the user cannot read.
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    done = enroller.run("--list", person=alice)
    assert (done.status, "only root can see them" in done.stderr) == (0, True)
    assert enroller.run("--list", "--user", alice.name).stderr == ""


def test_list__date_that_no_calendar_has_is_no_traceback(enroller: Enroller, alice: Person, phone: Phone) -> None:
    set_created(alice, 10**18, 10**19)
    done = enroller.run("--list", person=alice)
    assert (done.status, done.stdout.count("unknown")) == (0, 2)
    assert enroller.run("--list", "--json", person=alice).status == 0


def test_list__result_that_cannot_be_written_is_an_error(enroller: Enroller, alice: Person, phone: Phone) -> None:
    command = ["sh", "-c", '"$@" >/dev/full', "sh", *map(str, enroller.program), "--list", "--user", alice.name]
    done = subprocess.run(command, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot write the result: No space left on device" in done.stderr
