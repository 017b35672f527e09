"""Run `softtoken-enroll --sign` as root for a user: enrol, list and remove tokens that sign sudo commands."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from pam_softtoken.account import signers
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.signers import SignerStore
from pam_softtoken.otp import signing
from pam_softtoken.otp.ocra import OCRAToken
from tests.support.account import Person
from tests.support.device import PASSPHRASE, Device
from tests.support.enroller import Enroller
from tests.support.signers_place import PLACE, require_no_leftovers
from tests.support.signing_device import (
    READY_PROMPT,
    SIGNATURE_PROMPT,
    SigningDevice,
    enrol_device,
    requests_in,
    uris_in,
)


def marks(person: Person) -> list[bool]:
    """Return whether there is the mark of the uid, and that of the name."""
    return [os.path.lexists(signers.uid_mark(person.uid)), os.path.lexists(signers.name_mark(person.name))]


def enrolled(person: Person) -> dict[str, bytes]:
    """Return the names and keys of the tokens that sudo would ask for."""
    store = SignerStore(Account(person.name, person.uid, person.gid, home=str(person.home)))
    try:
        return {token.name: token.secret.reveal() for token in store.open_signers()}
    finally:
        store.close()


def enrol(enroller: Enroller, person: Person, *options: str) -> SigningDevice:
    with enroller.start("--sign", "--user", person.name, *options) as dialogue:
        return enrol_device(dialogue)


def test_sign__first_token_is_confirmed_and_root_keeps_it_with_both_marks(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--sign", "--user", alice.name) as dialogue:
        dialogue.expect(READY_PROMPT)
        assert marks(alice) == [False, False]
        device = SigningDevice(*uris_in(dialogue.transcript))
        dialogue.type("")
        dialogue.expect(SIGNATURE_PROMPT)
        statement = device.read(*requests_in(dialogue.transcript))
        dialogue.type(signing.grouped(signing.sign(device.key, statement)))
        assert dialogue.finish() == 0, dialogue.transcript
    host = os.uname().nodename
    assert (device.issuer, device.account) == (host, alice.name)
    assert (statement.host, statement.user, statement.run) == (host, alice.name, ("softtoken-enroll", "--sign"))
    assert statement.kind == "test"
    assert enrolled(alice) == {"laptop": device.key}
    assert marks(alice) == [True, True]
    assert dialogue.transcript.count(uris_in(dialogue.transcript)[0]) == 1
    for path, mode in ((PLACE, 0o711), (PLACE / str(alice.uid), 0o700), (PLACE / str(alice.uid) / "tokens", 0o600)):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (0, mode)


def test_sign__with_the_real_device(enroller: Enroller, alice: Person, tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.hold()
    with enroller.start("--sign", "--user", alice.name, "--name=tablet") as dialogue:
        dialogue.expect(READY_PROMPT)
        device.did("add", typed=uris_in(dialogue.transcript)[0].encode() + b"\n")
        dialogue.type("")
        dialogue.expect(SIGNATURE_PROMPT)
        (request,) = requests_in(dialogue.transcript)
        with device.start("sign") as person:
            person.expect("Passphrase of the vault: ")
            person.type(PASSPHRASE)
            person.expect("Request: ")
            person.type(request)
            shown = person.expect("Sign it? [y/N] ")
            person.type("y")
            assert person.finish() == 0, person.transcript
        assert "softtoken-enroll --sign" in shown
        dialogue.type(person.transcript.split("[y/N] ")[1].split("\n")[1].strip())
        assert dialogue.finish() == 0, dialogue.transcript
    (entry,) = device.content()
    assert isinstance(entry.token, OCRAToken)
    assert enrolled(alice) == {"tablet": entry.token.secret.reveal()}


def test_sign__without_a_right_code_nothing_is_written(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--sign", "--user", alice.name) as dialogue:
        dialogue.expect(READY_PROMPT)
        device = SigningDevice(*uris_in(dialogue.transcript))
        dialogue.type("")
        codes = []
        for _ in range(3):
            dialogue.expect(SIGNATURE_PROMPT)
            codes.append(device.sign(requests_in(dialogue.transcript)[-1]))
            dialogue.type(codes[-2] if len(codes) > 1 else "00000000")  # the code of the request before is no good
        mistake = dialogue.refused()
    assert mistake.error == "no code was right; nothing was changed"
    assert len(set(codes)) == 3
    assert marks(alice) == [False, False]


@pytest.mark.parametrize("prompt", [READY_PROMPT, SIGNATURE_PROMPT])
def test_sign__interrupted_enrolment_changes_nothing(enroller: Enroller, alice: Person, prompt: str) -> None:
    with enroller.start("--sign", "--user", alice.name) as dialogue:
        dialogue.expect(READY_PROMPT)
        if prompt == SIGNATURE_PROMPT:
            dialogue.type("")
            dialogue.expect(prompt)
        dialogue.press_control("C")
        mistake = dialogue.refused()
        assert "interrupted" in mistake.error
        assert mistake.hint == f"start again with softtoken-enroll --sign --user {alice.name}"
    assert marks(alice) == [False, False]
    require_no_leftovers()


def test_sign__several_tokens_are_added_replaced_listed_and_removed(enroller: Enroller, alice: Person) -> None:
    laptop = enrol(enroller, alice)
    tablet = enrol(enroller, alice, "--name=tablet")
    assert enrolled(alice) == {"laptop": laptop.key, "tablet": tablet.key}
    user = ("--sign", "--user", alice.name)
    again = enroller.start(*user)
    with again as dialogue:
        assert "already signs" in dialogue.refused().error
    new = enrol(enroller, alice, "--force")
    assert enrolled(alice) == {"laptop": new.key, "tablet": tablet.key}

    listed = enroller.run(*user, "--list")
    assert (listed.status, listed.stderr) == (0, "")
    table, sudo = listed.stdout.split("\n\n")
    assert [line.split()[:2] for line in table.splitlines()] == [
        ["name", "type"], ["tablet", "ocra"], ["laptop", "ocra"],
    ]  # fmt: skip
    assert sudo.startswith("sudo on this host ")
    facts = json.loads(enroller.run(*user, "--list", "--json").stdout)
    assert [(each["name"], each["type"], each["suite"]) for each in facts["tokens"]] == [
        (name, "ocra", "OCRA-1:HOTP-SHA256-8:QH64") for name in ("tablet", "laptop")
    ]

    assert 'did you mean "laptop"?' in enroller.run(*user, "--remove=labtop", "--no-confirm").refused().hint
    assert "there is no terminal" in enroller.run(*user, "--remove=laptop").stderr
    assert enrolled(alice) == {"laptop": new.key, "tablet": tablet.key}
    assert enroller.run(*user, "--remove=laptop", "--no-confirm").status == 0
    assert enrolled(alice) == {"tablet": tablet.key}
    assert marks(alice) == [True, True]
    assert enroller.run(*user, "--remove=tablet", "--no-confirm").status == 0
    assert marks(alice) == [False, False]
    require_no_leftovers()
    assert "has no token that signs" in enroller.run(*user, "--list").refused().error
    assert json.loads(enroller.run(*user, "--list", "--json").stdout)["tokens"] == []


def test_sign__there_is_a_limit(enroller: Enroller, alice: Person) -> None:
    for number in range(signers.MAX_SIGNERS):
        enrol(enroller, alice, f"--name=n{number}")
    with enroller.start("--sign", "--user", alice.name, "--name=more") as dialogue:
        assert "there can be no more" in dialogue.refused().error
    enrol(enroller, alice, "--name=n2", "--force")
    assert sorted(enrolled(alice)) == ["n0", "n1", "n2", "n3"]


def test_sign__token_that_was_enrolled_meanwhile_is_not_lost(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--sign", "--user", alice.name) as slow:
        slow.expect(READY_PROMPT)
        quick = enrol(enroller, alice)
        slow.type("")
        slow.expect(SIGNATURE_PROMPT)
        slow.type(SigningDevice(*uris_in(slow.transcript)).sign(*requests_in(slow.transcript)))
        assert "somebody else has changed" in slow.refused().error
    assert enrolled(alice) == {"laptop": quick.key}


def test_sign__removed_token_is_not_brought_back_by_an_enrolment_that_began_before(
    enroller: Enroller, alice: Person
) -> None:
    enrol(enroller, alice)
    with enroller.start("--sign", "--user", alice.name, "--name=tablet") as slow:
        slow.expect(READY_PROMPT)
        assert enroller.run("--sign", "--user", alice.name, "--remove=laptop", "--no-confirm").status == 0
        slow.type("")
        slow.expect(SIGNATURE_PROMPT)
        slow.type(SigningDevice(*uris_in(slow.transcript)).sign(*requests_in(slow.transcript)))
        assert "somebody else has changed" in slow.refused().error
    assert marks(alice) == [False, False]


def test_sign__damaged_or_foreign_file_is_replaced_only_with_force(enroller: Enroller, alice: Person) -> None:
    path = PLACE / str(alice.uid) / "tokens"
    enrol(enroller, alice)
    for content in (b"torn", path.read_bytes().replace(alice.name.encode(), b"somebody")):
        path.write_bytes(content)
        with enroller.start("--sign", "--user", alice.name) as dialogue:
            mistake = dialogue.refused()
        assert f"softtoken-enroll --sign --user {alice.name} --force" in mistake.hint
        assert path.read_bytes() == content
        device = enrol(enroller, alice, "--force")
        assert enrolled(alice) == {"laptop": device.key}


@pytest.mark.parametrize("rest", ["name", "empty directory", "no tokens"])
def test_sign__what_a_killed_or_revoking_program_left_is_no_trap(enroller: Enroller, alice: Person, rest: str) -> None:
    """Root enrols again, or takes the marks away."""

    def leave() -> None:
        if rest == "name":
            shutil.rmtree(PLACE / str(alice.uid), ignore_errors=True)
            Path(signers.name_mark(alice.name)).touch()
        elif rest == "empty directory":
            (PLACE / str(alice.uid)).mkdir(mode=0o700)
        else:
            (PLACE / str(alice.uid)).mkdir(mode=0o700)
            path = PLACE / str(alice.uid) / "tokens"
            path.write_bytes(signers.serialise((), owner=(alice.name, alice.uid)))
            path.chmod(0o600)

    enrol(enroller, alice)
    enroller.run("--sign", "--user", alice.name, "--remove=laptop", "--no-confirm")
    leave()
    assert "still wants signatures" in enroller.run("--sign", "--user", alice.name, "--list").refused().error
    device = enrol(enroller, alice)
    assert enrolled(alice) == {"laptop": device.key}
    assert marks(alice) == [True, True]
    enroller.run("--sign", "--user", alice.name, "--remove=laptop", "--no-confirm")
    leave()
    assert enroller.run("--sign", "--user", alice.name, "--remove=laptop", "--no-confirm").status == 0
    assert marks(alice) == [False, False]


def test_sign__leftover_of_a_killed_enrolment_goes_with_the_next_change(enroller: Enroller, alice: Person) -> None:
    enrol(enroller, alice)
    left = PLACE / ".new-0123456789abcdef"
    left.mkdir(mode=0o700)
    (left / "tokens").write_text("key")
    Path(signers.name_mark(alice.name)).unlink()
    enrol(enroller, alice, "--name=tablet")
    assert not left.exists()
    assert marks(alice) == [True, True]


@pytest.mark.parametrize(
    "options",
    [
        ["--store=/x/%U"], ["--type=hotp"], ["--qr=none"], ["--json"], ["--no-confirm"], ["--pin"], ["--check"],
        ["--import=x"], ["--list", "--remove=laptop"], ["--list", "--name=x"], ["--list", "--force"],
        ["--remove=laptop", "--json"], ["--remove=laptop", "--force"], ["--recovery-codes=1"], ["--if-absent"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_sign__other_options_are_refused(enroller: Enroller, alice: Person, options: list[str]) -> None:
    mistake = enroller.run("--sign", "--user", alice.name, *options).refused(2)
    assert "does not go with --sign" in mistake.error


def test_sign__odd_names_are_refused_before_a_key_is_shown(enroller: Enroller, alice: Person) -> None:
    for name in ("", " x", "x" * 65, "a\tb"):
        with enroller.start("--sign", "--user", alice.name, f"--name={name}") as dialogue:
            assert dialogue.finish() == 2
        assert "otpauth" not in dialogue.transcript


def test_sign__is_not_for_root(enroller: Enroller) -> None:
    mistake = enroller.run("--sign", "--list").refused()
    assert mistake.error == "sudo asks root for no signature"


def test_sign__script_gets_no_key(enroller: Enroller, alice: Person) -> None:
    done = enroller.run("--sign", "--user", alice.name, typed=b"\n\n\n")
    assert "there is no terminal" in done.refused().error
    assert marks(alice) == [False, False]


def test_sign__name_phone_is_a_name_like_any_other(enroller: Enroller, alice: Person) -> None:
    device = enrol(enroller, alice, "--name=phone")
    assert enrolled(alice) == {"phone": device.key}


def test_sign__terminal_without_the_characters_of_a_name_shows_escapes(
    enroller: Enroller, alice: Person, locales: dict[str, dict[str, str]]
) -> None:
    enrol(enroller, alice, "--name=\u043a\u043b\u044e\u0447")
    listed = enroller.run("--sign", "--user", alice.name, "--list", environment=locales["latin"])
    assert "\\u043a\\u043b\\u044e\\u0447" in listed.stdout
