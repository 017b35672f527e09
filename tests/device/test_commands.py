"""Run the subcommands in a script and at a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
from pathlib import Path
from types import FrameType

import pytest
import segno

from pam_softtoken.device import clock_check
from pam_softtoken.device.arrival import take
from pam_softtoken.interchange.record import Imported
from pam_softtoken.otp.token import TOTPToken, encode_base32
from pam_softtoken.program_errors import CheckFailed
from tests.support.device import PASSPHRASE, RFC_KEY, RFC_KEY_BASE32, Device, hotp, totp
from tests.support.screen import read_qr_codes

URI = f"otpauth://totp/myhost:alice?secret={RFC_KEY_BASE32}&issuer=myhost"
SHORT = "JBSWY3DPEHPK3PXP"  # 80 bits, as many services use
FIRST_QUESTION = "Paste the line that begins with otpauth://, or type a name to enter a key yourself: "


def _names(device: Device) -> list[str]:
    return [entry.name for entry in device.content()]


def test_add__reads_a_key_uri_from_stdin_and_uses_its_account_name(device: Device) -> None:
    done = device.run("add", typed=URI.encode() + b"\n")
    assert (done.status, done.stdout, done.stderr) == (0, "", 'Added "alice".\n')
    (entry,) = device.content()
    assert (entry.name, entry.issuer, entry.token.secret.reveal()) == ("alice", "myhost", RFC_KEY)


def test_add__second_account_of_that_name_gets_the_issuer_to_it(device: Device) -> None:
    for number, issuer in enumerate(("one", "two", "two")):
        device.did("add", typed=f"otpauth://totp/{issuer}:alice?secret={SHORT[:-1]}{'ABC'[number]}".encode())
    assert _names(device) == ["alice", "two alice", "two alice (2)"]


def test_add__name_can_be_given_and_one_in_use_is_refused(device: Device) -> None:
    device.did("add", "--name", "日本 🔑", typed=URI.encode())
    assert _names(device) == ["日本 🔑"]
    other = f"otpauth://totp/x?secret={SHORT}".encode()
    assert device.refused("add", "--name", "日本 🔑", typed=other).error == 'there is another entry "日本 🔑"'
    assert device.refused("add", "--name", "", typed=other, status=2).error.startswith("a name has 1 to 64")


def test_add__refuses_a_token_that_is_already_there(device: Device) -> None:
    device.did("add", typed=URI.encode())
    assert device.refused("add", "--name", "b", typed=URI.encode()).error == 'that token is there already, as "alice"'


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        (f"otpauth://steam/alice?secret={RFC_KEY_BASE32}", 'a token "steam" makes its codes in a way of its own'),
        (f"otpauth://totp/Steam:a?secret={SHORT}&encoder=steam", 'a token "steam" makes its codes in a way of its own'),
        (f"otpauth://yaotp/alice?secret={SHORT}", 'a token "yaotp" makes its codes in a way of its own'),
        (f"otpauth://motp/alice?secret={SHORT}", 'a token "motp" makes its codes in a way of its own'),
        (f"otpauth://totp/alice?secret={SHORT}&digits=5", "digits is not a number from 6 to 8"),
        (f"otpauth://totp/alice?secret={SHORT}&algorithm=MD5", 'the algorithm "MD5" is none of SHA1'),
        (f"otpauth://totp/alice?secret={SHORT}&pin=1", 'the parameter "pin" is not known here'),
        ("otpauth-migration://offline?data=AA", "this is an export with any number of tokens"),
        ("https://example.org", "not a Key URI"),
        ("", "there is no Key URI on stdin"),
        (f"{URI}\n{URI}", "there is more than a Key URI on stdin"),
    ],
)
def test_add__other_type_than_hotp_or_totp_is_refused_before_the_passphrase_question(
    device: Device, uri: str, told: str
) -> None:
    done = device.run("add", typed=uri.encode(), passphrase=None)
    assert done.status == 1
    assert told in done.stderr
    assert SHORT not in done.stderr
    assert not device.data.exists()


def test_add__reads_the_qr_code_in_a_picture(device: Device, tmp_path: Path) -> None:
    picture = tmp_path / "shot.png"
    segno.make(URI).save(str(picture), scale=5)
    device.did("add", "--image", picture)
    other = tmp_path / "other.png"
    segno.make(f"otpauth://hotp/bob?secret={SHORT}&counter=7").save(str(other), scale=5)
    device.did("add", "--image", "-", typed=other.read_bytes())
    assert _names(device) == ["alice", "bob"]
    segno.make("https://example.org").save(str(picture), scale=5)
    assert device.refused("add", "--image", picture).error == "no QR code in the picture is a Key URI"
    assert "cannot read" in device.refused("add", "--image", tmp_path / "none.png").error


def test_add__asks_for_each_field_with_the_key_hidden(device: Device) -> None:
    with device.start("add", "--advanced") as person:
        person.expect(FIRST_QUESTION)
        person.type("Zoë")
        person.expect("Key, in Base32: ")
        person.type("jbsw y3dp ehpk 3pxp")
        for question, answer in (("[totp]", "hotp"), ("[6]", "8"), ("[SHA1]", "sha256"), ("Counter [0]", "41")):
            person.expect(f"{question}: ")
            person.type(answer)
        for question in ("New passphrase for the vault: ", "The same again: "):
            person.expect(question)
            person.type(PASSPHRASE)
        assert person.finish() == 0
        assert 'Added "Zoë".' in person.transcript
        assert "3pxp" not in person.transcript
        assert PASSPHRASE not in person.transcript
    (entry,) = device.content()
    assert (entry.name, entry.otp_token.digits, entry.otp_token.algorithm) == ("Zoë", 8, "SHA256")
    assert encode_base32(entry.token.secret.reveal()) == SHORT


def test_add__asks_only_for_name_and_key_and_shows_the_entry(device: Device) -> None:
    with device.start("add") as person:
        for question, answer in ((FIRST_QUESTION, "work"), ("Key, in Base32: ", RFC_KEY_BASE32)):
            person.expect(question)
            person.type(answer)
        person.expect("Taken as TOTP with 6 digits, SHA1 and 30 s, as nearly all are; softtoken add --advanced asks")
        for question in ("New passphrase for the vault: ", "The same again: "):
            person.expect(question)
            person.type(PASSPHRASE)
        assert person.finish() == 0
        shown = person.transcript.replace("\r\n", " ")
        assert f'Made the vault "{device.path}". With --keyring the desktop\'s keyring keeps the passphrase.' in shown
    (entry,) = device.content()
    assert isinstance(entry.token, TOTPToken)
    assert (entry.token.period_s, entry.token.digits, entry.token.algorithm) == (30, 6, "SHA1")


def test_add__asks_again_for_each_field_that_was_mistyped(device: Device) -> None:
    device.hold()
    mistyped = {
        FIRST_QUESTION: (["", "otpauth://totp/x", "otpauth-migration://offline?data=AA"], "work"),
        "Key, in Base32: ": (["", "not a key!", "GEZDGNBVGY3TQOJ0"], RFC_KEY_BASE32),
        "Type, totp or hotp [totp]: ": (["tot", "steam"], "TOTP"),
        "Digits [6]: ": (["5", "9", "six", "+6"], "7"),
        "Algorithm [SHA1]: ": (["MD5", "sha"], "sha-512"),
        "Period in seconds [30]: ": (["0", "301", "1.5"], "45"),
        "Passphrase of the vault: ": ([], PASSPHRASE),
    }
    with device.start("add", "--advanced") as person:
        for question, (wrong, right) in mistyped.items():
            for answer in wrong:
                person.expect(question)
                person.type(answer)
                person.expect("Try again, or press Ctrl-C.")
            person.expect(question)
            person.type(right)
        assert person.finish() == 0
        assert RFC_KEY_BASE32 not in person.transcript
        assert "GEZDGNBVGY3TQOJ0" not in person.transcript
    (entry,) = device.content()
    assert isinstance(entry.token, TOTPToken)
    assert (entry.name, entry.token.period_s, entry.token.digits) == ("work", 45, 7)
    assert entry.token.algorithm == "SHA512"


@pytest.mark.parametrize("key", ["C", "D"])
def test_add__end_of_input_or_ctrl_c_ends_it(device: Device, key: str) -> None:
    with device.start("add") as person:
        person.expect(FIRST_QUESTION)
        person.type("")
        person.expect("Try again, or press Ctrl-C.")
        person.expect(FIRST_QUESTION)
        person.press_control(key)
        assert person.finish() == 1
        assert "nothing was changed" in person.transcript
    assert not device.path.exists()


def test_add__key_uri_can_be_pasted_in_place_of_the_name(device: Device) -> None:
    device.hold()
    with device.start("add") as person:
        person.expect(FIRST_QUESTION)
        person.type(URI)
        person.expect("Passphrase of the vault: ")
        person.type(PASSPHRASE)
        assert person.finish() == 0
    assert _names(device) == ["alice"]


def test_list__shows_names_and_kinds_and_no_keys(device: Device) -> None:
    device.hold(totp("日本", issuer="bank", digits=8, period_s=60), hotp("bob", b"another key of it", counter=7))
    assert device.did("list").splitlines() == [
        "NAME  ISSUER  TYPE  CODE",
        "日本  bank    totp  8 digits, SHA1, every 60 s",
        "bob   -       hotp  6 digits, SHA1, next is number 7",
    ]
    first, second = json.loads(device.did("list", "--json"))
    common = {"algorithm": "SHA1"}
    assert first == common | {
        "name": "日本", "issuer": "bank", "type": "totp", "digits": 8, "period": 60, "counter": None,
    }  # fmt: skip
    assert second == common | {
        "name": "bob", "issuer": "", "type": "hotp", "digits": 6, "period": None, "counter": 7,
    }  # fmt: skip


def test_rename__changes_only_the_name(device: Device) -> None:
    device.hold(hotp("bob", counter=7), totp("alice", b"another key of it"))
    device.did("rename", "bob", "Bob Ω")
    entries = device.content()
    assert [entry.name for entry in entries] == ["Bob Ω", "alice"]
    assert device.did("code", "bob") == "162583\n"  # RFC 4226, appendix D, count 7
    assert device.refused("rename", "alice", "Bob Ω").error == 'there is another entry "Bob Ω"'
    assert device.refused("rename", "ali", "x").error == 'there is no entry "ali"; near it is "alice"'
    device.refused("rename", "alice", " x", status=2)


def test_remove__asks_and_removes_one_entry(device: Device) -> None:
    device.hold(totp("alice"), totp("bob", b"another key of it"))
    assert device.refused("remove", "alice").hint == "add --yes"
    for answer, left in (("n", ["alice", "bob"]), ("", ["alice", "bob"]), ("y", ["bob"])):
        with device.start("remove", "alice") as person:
            person.expect("Passphrase of the vault: ")
            person.type(PASSPHRASE)
            person.expect('Remove "alice"? Its key is gone then, from here. [y/N] ')
            person.type(answer)
            assert person.finish() == (0 if answer == "y" else 1)
        assert _names(device) == left
    device.did("remove", "bob", "--yes")
    assert _names(device) == []


def test_export__asks_and_prints_uris_that_add_accepts(device: Device, tmp_path: Path) -> None:
    entries = [totp("Zoë: 日本", issuer="Ħost: x", digits=8, period_s=60), hotp("bob", b"another key of it", counter=7)]
    device.hold(*entries)
    assert device.refused("export").hint == "add --yes"
    uris = device.did("export", "--yes").splitlines()
    assert [dict(urllib.parse.parse_qsl(uri.partition("?")[2]))["secret"] for uri in uris] == [
        RFC_KEY_BASE32,
        encode_base32(b"another key of it"),
    ]
    again = Device(tmp_path / "again")
    for uri in uris:
        again.did("add", typed=uri.encode())
    got = again.content()
    # A colon would part the label.
    assert [(entry.name, entry.issuer) for entry in got] == [("Zoë 日本", "Ħost x"), ("bob", "")]
    assert all(ours.is_same(other) for ours, other in zip(entries, got, strict=True))
    assert device.did("export", "bob", "--yes").splitlines() == uris[1:]
    assert device.did("code", "bob") == again.did("code", "bob") == _code_7()


def test_export__of_aegis_is_taken_again_whole(device: Device, tmp_path: Path) -> None:
    entries = [totp("Zoë: 日本", issuer="Ħost: x", digits=8, period_s=60), hotp("bob", b"another key of it", counter=7)]
    device.hold(*entries)
    text = device.did("export", "--format=aegis", "--yes")
    document = json.loads(text)
    assert [document["version"], document["header"], document["db"]["version"]] == [
        1,
        {"slots": None, "params": None},
        3,
    ]
    assert [(each["type"], each["issuer"], each["name"]) for each in document["db"]["entries"]] == [
        ("totp", "Ħost: x", "Zoë: 日本"),
        ("hotp", "", "bob"),
    ]
    file = tmp_path / "aegis.json"
    file.write_text(text)
    again = Device(tmp_path / "again")
    again.did("import", str(file))
    assert all(ours.is_same(other) for ours, other in zip(entries, again.content(), strict=True))
    assert again.did("code", "bob") == _code_7()
    one = json.loads(device.did("export", "bob", "--format=aegis", "--yes"))
    assert [each["name"] for each in one["db"]["entries"]] == ["bob"]
    assert (
        device.refused("export", "--qr", "--format=aegis", "--yes", status=2).error == "--qr does not go with --format"
    )


def _code_7() -> str:
    command = ["oathtool", "--hotp", "--counter=7", b"another key of it".hex()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_export__draws_qr_codes_that_a_camera_reads(device: Device) -> None:
    device.hold(totp("alice", issuer="myhost"))
    with device.start("export", "--qr") as person:
        person.expect("Passphrase of the vault: ")
        person.type(PASSPHRASE)
        person.expect("Show 1 key? Everybody who sees this screen has them, too. [y/N] ")
        person.type("y")
        assert person.finish() == 0
        drawn = person.transcript[person.transcript.index("alice") :]
    (uri,) = read_qr_codes(drawn.replace("\r\n", "\n"))
    assert uri.startswith(URI.partition("?")[0])
    assert RFC_KEY_BASE32 in uri


def test_import__adds_each_token_once_and_reports_it(device: Device, tmp_path: Path) -> None:
    device.hold(totp("alice", issuer="myhost"))
    file = tmp_path / "uris.txt"
    steam = f"otpauth://totp/Steam:a?secret={SHORT}&encoder=steam"
    other = f"otpauth://totp/one:bob?secret={SHORT}"
    same_name = f"otpauth://totp/one:bob?secret={SHORT[:-1]}A"
    file.write_text("\n".join([URI, other, steam, other, same_name]))
    done = device.run("import", file)
    assert done.status == 0, done.stderr
    assert done.stdout == ""
    assert _names(device) == ["alice", "one bob", "one bob (2)"]
    said = done.stderr.splitlines()
    assert said[:2] == ['Took "one bob".', 'Took "one bob (2)".']
    assert 'Skipped: "myhost alice" is there already, as "alice".' in said
    assert any(line.startswith("Skipped: line 3: ") and "steam" in line for line in said)
    assert said[-1] == "2 taken, 3 skipped."
    before = device.path.read_bytes()
    assert device.run("import", file).status == 0
    assert len(device.content()) == 3
    assert len(device.path.read_bytes()) == len(before)


def _calls_for(accounts: int, name: str) -> int:
    """Count the calls that put accounts into a vault of the same size."""
    held = [totp(name.format(0), b"held %d" % number) for number in range(accounts)]
    found = tuple(
        Imported(totp(name.format(number), b"new %d" % number).otp_token) for number in range(1, accounts + 1)
    )
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        report = take(found, held)
    finally:
        sys.setprofile(None)
    assert len(report.taken) == accounts
    assert len({*report.taken, name.format(0)}) == accounts + 1
    return calls


@pytest.mark.parametrize("name", ["account {}", "all the same"])
def test_import__twice_as_many_accounts_take_twice_as_long(name: str) -> None:
    assert _calls_for(400, name) < 3 * _calls_for(200, name)


def test_import__file_without_tokens_is_refused(device: Device) -> None:
    assert "cannot import" in device.refused("import", "-", typed=b"hello\n").error
    assert not device.data.exists()


STEP = 56_666_666
NOW = STEP * 30 + 10


def _compare(steps_off: int, *, asked: int = NOW, answered: int = NOW) -> str:
    token = totp("alice").token
    assert isinstance(token, TOTPToken)
    return clock_check.compare(token, token.otp_at(STEP + steps_off), asked=asked, answered=answered)


def test_verify__code_of_now_says_that_the_clock_is_right() -> None:
    assert _compare(0) == "The code is right for this moment: this machine's clock is right."
    assert _compare(0, answered=NOW + 45) == _compare(1, answered=NOW + 45) == _compare(0)


@pytest.mark.parametrize(
    ("steps_off", "told"),
    [
        # The other clock stands at 30 to 59 s of a minute where ours stands at 10 s.
        (1, "this machine's clock is 20 to 49 seconds behind the other device's"),
        (-1, "this machine's clock is 11 to 40 seconds ahead of the other device's"),
        (20, "this machine's clock is 590 to 619 seconds behind the other device's"),
        (-120, "this machine's clock is 3581 to 3610 seconds ahead of the other device's"),
    ],
)
def test_verify__reports_the_error_of_the_clock(steps_off: int, told: str) -> None:
    with pytest.raises(CheckFailed, match=told):
        _compare(steps_off)


def test_verify__code_of_another_hour_says_nothing() -> None:
    with pytest.raises(CheckFailed, match="not a code of this entry within an hour"):
        _compare(200)


def test_verify__asks_for_the_code(device: Device) -> None:
    device.hold(totp("alice", period_s=300), hotp("bob"))
    code = device.did("code", "alice")
    done = device.run("verify", "alice", typed=code.encode())
    if done.status:  # a period can end in between
        done = device.run("verify", "alice", typed=device.did("code", "alice").encode())
    assert (done.status, done.stdout) == (0, "")
    assert done.stderr.endswith("this machine's clock is right.\n")
    assert "counts" in device.refused("verify", "bob").error
