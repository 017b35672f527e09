"""Enrol, add and remove tokens that sign through the real sudo, as a user whose programs know the password.

Such a program lacks only the device. With the plugin, sudo itself asks for a signature of these commands.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pam_softtoken.account import places, signers
from pam_softtoken.otp.mac import sha256
from tests.support.account import Person, Phone
from tests.support.enroller import ENVIRONMENT, TOKEN_PROMPT, Dialogue, Mistake
from tests.support.installation import Installation
from tests.support.private_mounts import PrivateMounts
from tests.support.root_store import RootStore
from tests.support.signed_sudo import APPROVER, PLUGIN
from tests.support.signing_device import (
    READY_PROMPT,
    SIGNATURE_PROMPT,
    SigningDevice,
    enrol_device,
    requests_in,
    uris_in,
)

_INSIDE = """
mount -t tmpfs -o mode=711 tmpfs /var/lib/softtoken
[ -e /etc/sudo.conf ] || touch /etc/sudo.conf
touch "$1/sudo.conf"
mount --bind "$1/sudo.conf" /etc/sudo.conf
"""


class SigningHost(RootStore):
    """A host that keeps all tokens out of its users' reach.

    Args:
        mounts: the namespace with the services.
        installed: the installation whose program is /usr/bin/softtoken-enroll there.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation) -> None:
        super().__init__(mounts, installed)
        self.mounts = mounts
        self.run("sh", "-euc", _INSIDE, "sh", str(mounts.directory))

    def use_plugin(self) -> None:
        """Turn on that sudo asks for signatures."""
        line = f"Plugin softtoken_approval {PLUGIN} approver={APPROVER}\n"
        (self.mounts.directory / "sudo.conf").write_text(line)

    def files_of(self, person: Person) -> Path:
        """Return the directory of a user's tokens that sign."""
        return self.mounts.path(signers.uid_mark(person.uid))

    def fingerprint(self, person: Person) -> str:
        """Return what tells whether the tokens and marks of a user are as they were."""
        tokens = self.files_of(person) / "tokens"
        names = sorted(os.listdir(self.mounts.path(places.SIGNERS)))
        return f"{names} {sha256(tokens.read_bytes()).hexdigest() if tokens.exists() else None}"

    def names(self, person: Person) -> list[str]:
        """Return the names of a user's tokens that sign."""
        data = (self.files_of(person) / "tokens").read_bytes()
        return [token.name for token in signers.parse(data, path="tokens", owner=(person.name, person.uid))]

    def enrol(self, person: Person, *options: str) -> SigningDevice:
        """Enrol the first token of a user, as the user."""
        with self.start(person, "--sign", *options) as dialogue:
            return enrol_device(dialogue)


@pytest.fixture
def host(mounts: PrivateMounts, installed: Installation, alice: Person) -> SigningHost:
    return SigningHost(mounts, installed)


@pytest.fixture
def device(host: SigningHost, alice: Person) -> SigningDevice:
    """A user's first token."""
    return host.enrol(alice)


def refusal(dialogue: Dialogue) -> Mistake:
    assert dialogue.finish() == 1, dialogue.transcript
    return Mistake(dialogue.transcript)


def test_self__user_enrols_the_first_token_and_root_owns_it(host: SigningHost, alice: Person) -> None:
    with host.start(alice, "--sign") as dialogue:
        device = enrol_device(dialogue)
    assert device.account == alice.name
    assert "does not ask for signatures yet" in dialogue.transcript
    for path, mode in ((host.files_of(alice), 0o700), (host.files_of(alice) / "tokens", 0o600)):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (0, mode)
    assert host.mounts.path(signers.name_mark(alice.name)).exists()
    with host.start(alice, "--sign", "--list") as dialogue:
        assert dialogue.finish() == 0
    assert "laptop  ocra" in dialogue.transcript
    assert "otpauth" not in dialogue.transcript


WITHOUT_A_SIGNATURE = {
    "add": ["--name=tablet"],
    "replace": ["--force"],
    "remove": ["--remove=laptop"],
    "remove at once": ["--remove=laptop", "--no-confirm"],
}


@pytest.mark.parametrize("attempt", WITHOUT_A_SIGNATURE)
@pytest.mark.claim(
    "Such a program cannot replace, remove or add tokens that sign sudo commands without a signature either."
)
def test_self__without_a_signature_changes_nothing(
    host: SigningHost, alice: Person, device: SigningDevice, attempt: str
) -> None:
    before = host.fingerprint(alice)
    with host.start(alice, "--sign", *WITHOUT_A_SIGNATURE[attempt]) as dialogue:
        for code in ("00000000", "", "x"):
            dialogue.expect(SIGNATURE_PROMPT)
            dialogue.type(code)
        assert "not signed; nothing was changed" in refusal(dialogue).error
    assert not uris_in(dialogue.transcript)
    assert host.fingerprint(alice) == before
    assert any("(softtoken-enroll:sign)" in line and "result=denied" in line for line in host.mounts.log.ours())


def test_self__signature_of_another_command_does_not_count(
    host: SigningHost, alice: Person, device: SigningDevice
) -> None:
    with host.start(alice, "--sign", "--name=one") as one, host.start(alice, "--sign", "--name=two") as two:
        one.expect(SIGNATURE_PROMPT)
        two.expect(SIGNATURE_PROMPT)
        two.type(device.sign(requests_in(one.transcript)[-1]))
        two.expect("Not signed.")
    assert host.names(alice) == ["laptop"]


def test_self__signed_change_is_made_and_the_device_shows_it(
    host: SigningHost, alice: Person, device: SigningDevice
) -> None:
    with host.start(alice, "--sign", "--name=tablet") as dialogue:
        dialogue.expect('signs sudo commands with "laptop". This adds "tablet".')
        dialogue.expect(SIGNATURE_PROMPT)
        request = requests_in(dialogue.transcript)[-1]
        assert device.read(request).run == ("/usr/bin/softtoken-enroll", "--self", "--sign", "--name=tablet")
        dialogue.type(device.sign(request))
        dialogue.expect("Right.")
        tablet = enrol_device(dialogue)
    assert host.names(alice) == ["laptop", "tablet"]
    with host.start(alice, "--sign", "--remove=laptop") as dialogue:
        dialogue.expect(SIGNATURE_PROMPT)
        dialogue.type(tablet.sign(requests_in(dialogue.transcript)[-1]))
        assert dialogue.finish() == 0, dialogue.transcript
    assert host.names(alice) == ["tablet"]


def test_self__wrong_answers_count_until_the_user_has_to_wait(
    host: SigningHost, alice: Person, device: SigningDevice
) -> None:
    for _ in range(2):
        with host.start(alice, "--sign", "--name=tablet") as dialogue:
            for _ in range(4):
                if not dialogue.expect_any(SIGNATURE_PROMPT):
                    break
                dialogue.type("00000000")
            refusal(dialogue)
    assert "Too many wrong codes" in dialogue.transcript


def test_self__with_the_plugin_only_sudo_asks(host: SigningHost, alice: Person, device: SigningDevice) -> None:
    host.use_plugin()
    with host.start(alice, "--sign", "--name=tablet") as dialogue:
        dialogue.expect(SIGNATURE_PROMPT)
        request = requests_in(dialogue.transcript)[-1]
        assert device.read(request).run == ("/usr/bin/softtoken-enroll", "--self", "--sign", "--name=tablet")
        dialogue.type(device.sign(request))
        enrol_device(dialogue)
    assert "sudo on this host asks for signatures." in dialogue.transcript
    assert host.names(alice) == ["laptop", "tablet"]


def test_self__line_in_sudo_conf_alone_replaces_no_signature(
    host: SigningHost, alice: Person, device: SigningDevice
) -> None:
    """Another implementation of sudo does not read that file."""
    with host.start(alice, "--sign", "--remove=laptop") as dialogue:
        dialogue.expect("To be signed with")
        host.use_plugin()
        dialogue.expect(SIGNATURE_PROMPT)
        dialogue.type("00000000")
        dialogue.expect(SIGNATURE_PROMPT)
    assert host.names(alice) == ["laptop"]


def test_self__last_token_goes_after_a_question(host: SigningHost, alice: Person, device: SigningDevice) -> None:
    for answer, is_left in (("n", True), ("y", False)):
        with host.start(alice, "--sign", "--remove=laptop") as dialogue:
            dialogue.expect(SIGNATURE_PROMPT)
            dialogue.type(device.sign(requests_in(dialogue.transcript)[-1]))
            dialogue.expect("sudo asks for no signature any more")
            dialogue.expect("[y/N] ")
            dialogue.type(answer)
            assert dialogue.finish() == (1 if is_left else 0), dialogue.transcript
        assert host.files_of(alice).exists() == is_left
    assert os.listdir(host.mounts.path(places.SIGNERS)) == []


@pytest.mark.parametrize("rest", ["no tokens", "name"])
@pytest.mark.claim("A user who had a token gets no new one by the password alone.")
def test_self__user_whose_tokens_are_gone_gets_a_new_one_from_root_only(
    host: SigningHost, alice: Person, device: SigningDevice, rest: str
) -> None:
    tokens = host.files_of(alice) / "tokens"
    if rest == "no tokens":
        tokens.write_bytes(signers.serialise((), owner=(alice.name, alice.uid)))
    else:
        for path in host.files_of(alice).iterdir():
            path.unlink()
        host.files_of(alice).rmdir()
    for options in ([], ["--force"], ["--name=tablet"]):
        with host.start(alice, "--sign", *options) as dialogue:
            mistake = refusal(dialogue)
        assert "only root can make one again" in mistake.error
        assert mistake.hint == f"ask an administrator for: softtoken-enroll --sign --user {alice.name}"


def test_self__user_revoked_during_the_dialogue_is_not_enrolled(host: SigningHost, alice: Person) -> None:
    host.run("install", "-d", "-m", "711", places.SIGNERS)
    with host.start(alice, "--sign") as dialogue:
        dialogue.expect(READY_PROMPT)
        host.mounts.path(signers.name_mark(alice.name)).touch()
        device = SigningDevice(uris_in(dialogue.transcript)[-1])
        dialogue.type("")
        dialogue.expect(SIGNATURE_PROMPT)
        dialogue.type(device.sign(requests_in(dialogue.transcript)[-1]))
        assert "only root can make one again" in refusal(dialogue).error
    assert not host.files_of(alice).exists()


def revoking(host: SigningHost, installed: Installation, person: Person, *options: str) -> Dialogue:
    """Start the revocation of everything as root."""
    words = [
        str(installed.root / "scripts" / "softtoken-admin"),
        "revoke",
        person.name,
        f"--store={host.template}",
        *options,
    ]
    return Dialogue(host.mounts.command(*words), person=None, environment=ENVIRONMENT)


@pytest.mark.parametrize("prompt", ["", READY_PROMPT, SIGNATURE_PROMPT])
def test_self__user_whose_codes_are_revoked_before_or_meanwhile_gets_no_first_token(
    host: SigningHost, installed: Installation, alice: Person, prompt: str
) -> None:
    def revoke() -> None:
        with revoking(host, installed, alice, "--force", "--yes") as root:
            assert root.finish() == 0, root.transcript

    if not prompt:
        revoke()
    with host.start(alice, "--sign") as dialogue:
        if prompt:
            dialogue.expect(READY_PROMPT)
            device = SigningDevice(uris_in(dialogue.transcript)[-1])
            if prompt == READY_PROMPT:
                revoke()
            dialogue.type("")
            dialogue.expect(SIGNATURE_PROMPT)
            if prompt == SIGNATURE_PROMPT:
                revoke()
            dialogue.type(device.sign(requests_in(dialogue.transcript)[-1]))
        assert "have been revoked, so only root can enrol one that signs" in refusal(dialogue).error
    assert not host.files_of(alice).exists()


def test_self__first_token_that_a_thief_adds_while_root_is_asked_is_revoked_too(
    host: SigningHost, installed: Installation, alice: Person
) -> None:
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=0", f"--store={host.template}")
    with revoking(host, installed, alice) as root:
        root.expect("Revoke? [y/N] ")
        with host.start(alice, "--sign", "--name=thief") as dialogue:
            dialogue.expect(TOKEN_PROMPT)
            dialogue.type(phone.hotp())
            enrol_device(dialogue)
        assert host.names(alice) == ["thief"]
        root.type("y")
        assert root.finish() == 0, root.transcript
    assert host.names(alice) == []


def test_self__files_of_another_account_are_neither_shown_nor_named(
    host: SigningHost, alice: Person, device: SigningDevice
) -> None:
    tokens = host.files_of(alice) / "tokens"
    tokens.write_bytes(tokens.read_bytes().replace(alice.name.encode(), b"mallory"))
    before = host.fingerprint(alice)
    for options in (["--list"], ["--list", "--json"], [], ["--force"], ["--remove=laptop"]):
        with host.start(alice, "--sign", *options) as dialogue:
            refusal(dialogue)
        assert "mallory" not in dialogue.transcript
        assert '"laptop"' not in dialogue.transcript
    assert host.fingerprint(alice) == before


def test_self__first_token_needs_a_code_where_root_keeps_the_codes(
    host: SigningHost, installed: Installation, alice: Person
) -> None:
    phone: Phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=0", f"--store={host.template}")
    with host.start(alice, "--sign") as dialogue:
        for _ in range(3):
            dialogue.expect(TOKEN_PROMPT)
            dialogue.type("000000")
        refusal(dialogue)
    assert not uris_in(dialogue.transcript)
    with host.start(alice, "--sign") as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.hotp())
        enrol_device(dialogue)
    assert host.names(alice) == ["laptop"]


def test_self__tokens_that_sign_are_roots_even_where_the_others_are_in_the_home(
    host: SigningHost, alice: Person
) -> None:
    (host.mounts.directory / "security" / "softtoken.conf").write_text("")
    host.enrol(alice)
    assert host.names(alice) == ["laptop"]


@pytest.mark.parametrize("option", ["--user=root", "--user={name}", "--store=/etc/%U"])
def test_self__is_for_the_caller_only(host: SigningHost, alice: Person, option: str) -> None:
    program = ("/usr/bin/sudo", "--", "/usr/bin/softtoken-enroll", "--self", "--sign")
    with host.start(alice, option.format(name=alice.name), program=program) as dialogue:
        assert dialogue.finish() == 2
    assert not host.mounts.path(places.SIGNERS).exists()


@pytest.mark.parametrize("step", ["stop", "hang up"])
def test_self__user_cannot_hold_up_the_enrolments_of_others(
    host: SigningHost, alice: Person, device: SigningDevice, step: str
) -> None:
    """While something is asked, no lock is held."""
    with host.start(alice, "--sign", "--name=tablet") as dialogue:
        dialogue.expect(SIGNATURE_PROMPT)
        if step == "stop":
            dialogue.press_control("Z")
        else:
            dialogue.hang_up()
        with host.start(alice, "--sign", "--name=other") as other:
            other.expect(SIGNATURE_PROMPT)
            other.type(device.sign(requests_in(other.transcript)[-1]))
            enrol_device(other)
    assert host.names(alice) == ["laptop", "other"]
