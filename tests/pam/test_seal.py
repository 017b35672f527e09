"""Seal the token files of root's, and log in before, during and after, through the real module."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pam_softtoken.account import host_key, seal
from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.directory_service import DirectoryService
from tests.support.pam_scene import Pam, severities
from tests.support.sealed_host import TPM, TYPE_IT, SealedHost
from tests.support.tools import needs

ALERT = 1


@pytest.fixture
def host(directory: DirectoryService, pam: Pam) -> SealedHost:
    """A host that can seal, and seals nothing yet."""
    return SealedHost(directory, pam)


@pytest.fixture
def bob(make_person: Callable[[], Person]) -> Person:
    """Another user."""
    return make_person()


def test_seal__on_and_off_let_users_in_and_write_what_they_should(host: SealedHost, alice: Person, bob: Person) -> None:
    phone = host.enrol(alice, "--recovery-codes=2")
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")
    plain = host.tokens_of(alice).read_bytes()
    host.seal("--on")
    sealed = host.tokens_of(alice).read_bytes()
    assert sealed.startswith(b"softtoken-sealed 1 ")
    assert len(sealed) == len(plain) + seal.OVERHEAD_BYTES
    assert str(phone.record["key"]).encode() not in sealed
    assert alice.name.encode() not in sealed
    assert (host.key_file.stat().st_mode & 0o777, host.key_file.stat().st_uid) == (0o400, 0)
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")
    assert host.log_in(alice, "000000") == (PAM_AUTH_ERR, 1, "mismatch")
    assert host.log_in(alice, phone.recovery_codes[0]) == (PAM_SUCCESS, 1, "recovery")
    bobs = host.enrol(bob)
    assert host.tokens_of(bob).read_bytes().startswith(b"softtoken-sealed 1 ")
    assert host.log_in(bob, bobs.hotp()) == (PAM_SUCCESS, 1, "accepted")
    assert (host.status()["sealed"], host.status()["plain"]) == (2, 0)
    assert "\nsealing: on, with the key " in host.directory.run("softtoken-admin", "status").stdout
    done = host.run("--off")
    assert done.status == 0, done.stderr
    assert host.tokens_of(alice).read_bytes() == plain
    assert json.loads(host.tokens_of(bob).read_bytes())
    assert not list(host.keys.iterdir())
    for person, token in ((alice, phone), (bob, bobs)):
        assert host.log_in(person, token.hotp()) == (PAM_SUCCESS, 1, "accepted")


def test_seal__rotation_leaves_nothing_that_the_old_key_opens(host: SealedHost, alice: Person) -> None:
    phone = host.enrol(alice)
    first = host.seal("--on")
    old = host_key.parse(host.key_file.read_bytes()).sealing
    assert old is not None
    second = host.seal("--rotate")
    assert first != second
    keys = host_key.parse(host.key_file.read_bytes())
    assert keys.others == ()
    with pytest.raises(ValueError, match="another key"):
        seal.unseal(old, host.tokens_of(alice).read_bytes(), host_key.PLACE)
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")


def test_seal__goes_on_only_after_the_recovery_key_is_typed_back(host: SealedHost, alice: Person) -> None:
    host.enrol(alice)
    plain = host.tokens_of(alice).read_bytes()
    for answer in ("", "no", "AAAA-" * 13 + "AAAA"):
        with host.start("--on") as dialogue:
            dialogue.expect(TYPE_IT)
            dialogue.type(answer)
            assert dialogue.finish() == 1
            assert "that is not the recovery key; nothing was changed" in dialogue.transcript
    assert host.run("--on").status == 1
    assert not list(host.keys.iterdir())
    assert host.tokens_of(alice).read_bytes() == plain


def _no_key(host: SealedHost, alice: Person, bob: Person) -> None:
    host.key_file.unlink()


def _wrong_key(host: SealedHost, alice: Person, bob: Person) -> None:
    host.key_file.write_bytes(host_key.serialise(host_key.HostKeys(bytes(32))))


def _open_key(host: SealedHost, alice: Person, bob: Person) -> None:
    host.key_file.chmod(0o440)


def _cut_key(host: SealedHost, alice: Person, bob: Person) -> None:
    host.key_file.write_bytes(host.key_file.read_bytes()[:-1])


def _changed_bit(host: SealedHost, alice: Person, bob: Person) -> None:
    data = bytearray(host.tokens_of(alice).read_bytes())
    data[100] ^= 1
    host.tokens_of(alice).write_bytes(data)


def _cut_file(host: SealedHost, alice: Person, bob: Person) -> None:
    host.tokens_of(alice).write_bytes(host.tokens_of(alice).read_bytes()[:-1])


FAULTS = {
    "no key": (_no_key, "softtoken-admin seal --recover"),
    "wrong key": (_wrong_key, "softtoken-admin seal --recover"),
    "key that others can read": (_open_key, "softtoken-admin seal --recover"),
    "key file that is cut": (_cut_key, "softtoken-admin seal --recover"),
    "changed bit": (_changed_bit, "softtoken-enroll --user"),
    "cut file": (_cut_file, "softtoken-enroll --user"),
}


@pytest.mark.claim(
    "A sealed token file is refused without the key of the host, and after any change, cut or exchange with another "
    "user's."
)
@pytest.mark.parametrize("name", FAULTS)
def test_login__with_a_seal_that_does_not_open_is_denied_with_an_alert(
    host: SealedHost, alice: Person, bob: Person, name: str
) -> None:
    phone = host.enrol(alice)
    host.seal("--on")
    damage, cure = FAULTS[name]
    damage(host, alice, bob)
    assert host.log_in(alice, phone.hotp()) == (PAM_AUTH_ERR, 1, "sealed")
    assert severities(host.log)[-1] == ALERT
    assert cure in host.log.outcomes()[-1]["detail"]
    assert any(severity == "error" for severity, _, _ in host.findings())


@pytest.mark.claim(
    "A sealed token file is refused without the key of the host, and after any change, cut or exchange with another "
    "user's."
)
def test_login__refuses_a_sealed_file_of_another_user(host: SealedHost, alice: Person, bob: Person) -> None:
    alices, bobs = host.enrol(alice), host.enrol(bob)
    host.seal("--on")
    shutil.copyfile(host.tokens_of(bob), host.tokens_of(alice))
    for code in (alices.hotp(), bobs.hotp_at(0)):
        assert host.log_in(alice, code) == (PAM_AUTH_ERR, 1, "other_account")


@pytest.mark.parametrize("left", ["host.key.tpm", "lost"])
def test_writer__without_the_key_writes_nothing_plain(host: SealedHost, alice: Person, bob: Person, left: str) -> None:
    """Where the TPM does not answer, or the key file is gone, an enrolment fails. It does not undo the seal."""
    host.enrol(alice)
    host.seal("--on")
    host.key_file.rename(host.key_file.with_name(left))
    before = host.tokens_of(alice).read_bytes()
    for person, words in ((bob, ()), (alice, ("--force",)), (alice, ("--new-recovery-codes", "--recovery-codes=1"))):
        done = host.directory.run("softtoken-enroll", "--user", person.name, "--no-confirm", *words)
        assert done.refused().error
    assert host.tokens_of(alice).read_bytes() == before
    assert not host.tokens_of(bob).exists()
    for path in host.store.rglob("*"):
        assert path.is_dir() or b'"key"' not in path.read_bytes(), path


def test_recover__takes_only_the_right_recovery_key(host: SealedHost, alice: Person, bob: Person) -> None:
    phone = host.enrol(alice)
    host.enrol(bob)
    text = host.seal("--on")
    damaged = bytearray(host.tokens_of(bob).read_bytes())
    damaged[seal.HEADER_BYTES - 1] = 0  # no key opens it, so none is asked for
    host.tokens_of(bob).write_bytes(damaged)
    host.key_file.unlink()
    assert host.run("--on").status == 1
    assert host.run("--off").status == 1
    assert host.recover(text[:-1] + ("A" if text[-1] != "A" else "B"))[0] == 1
    assert not host.key_file.exists()
    status, shown = host.recover(text.lower().replace("-", " "))
    assert status == 0, shown
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")


def test_recover__after_an_interrupted_rotation_takes_both_keys(host: SealedHost, alice: Person, bob: Person) -> None:
    alices, bobs = host.enrol(alice), host.enrol(bob)
    first = host.seal("--on")
    kept = host.tokens_of(alice).read_bytes()
    second = host.seal("--rotate")
    host.tokens_of(alice).write_bytes(kept)
    host.key_file.unlink()
    status, shown = host.recover(first, second)
    assert status == 0, shown
    assert host.log_in(alice, alices.hotp()) == (PAM_SUCCESS, 1, "accepted")
    assert host.log_in(bob, bobs.hotp()) == (PAM_SUCCESS, 1, "accepted")
    assert "--rotate" in str(host.findings())
    assert host.run("--rotate").status == 0
    assert host.findings() == []


def test_seal__takes_along_what_killed_programs_have_left(host: SealedHost, alice: Person) -> None:
    """A token that was set aside stays readable, and a copy with plain keys goes."""
    host.enrol(alice)
    place = host.tokens_of(alice).parent
    for name in (".tokens.moving", ".tokens.0123456789abcdef"):
        shutil.copyfile(place / "tokens", place / name)
        (place / name).chmod(0o600)
    host.seal("--on")
    assert sorted(path.name for path in place.iterdir()) == [".tokens.moving", "state", "tokens"]
    assert (place / ".tokens.moving").read_bytes().startswith(b"softtoken-sealed ")


def test_seal__one_broken_file_stops_neither_the_others_nor_keeps_them_sealed(
    host: SealedHost, alice: Person, bob: Person
) -> None:
    host.enrol(alice)
    bobs = host.enrol(bob)
    host.seal("--on")
    _changed_bit(host, alice, bob)
    done = host.run("--off")
    assert done.status == 1
    assert str(alice.uid) in done.stderr
    assert host.key_file.exists()
    assert host.tokens_of(bob).read_bytes().startswith(b"{")
    assert host.log_in(bob, bobs.hotp()) == (PAM_SUCCESS, 1, "accepted")
    host.tokens_of(alice).unlink()
    assert host.run("--off").status == 0
    assert not host.key_file.exists()


def test_move__out_of_the_store_and_back(host: SealedHost, alice: Person) -> None:
    """In a home nothing is sealed, because the user has to be able to write it."""
    phone = host.enrol(alice)
    host.seal("--on")
    run = host.directory.run
    assert run("softtoken-admin", "move", alice.name, "--to", "home").status == 0
    assert (alice.store / "tokens").read_bytes().startswith(b"{")
    assert run("softtoken-admin", "move", alice.name, "--to", "system").status == 0
    assert host.tokens_of(alice).read_bytes().startswith(b"softtoken-sealed ")
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")


def test_seal__refuses_where_users_keep_their_tokens(host: SealedHost, alice: Person) -> None:
    host.directory.set_conf("")
    host.directory.enrol(alice.name)
    done = host.run("--on")
    assert done.status == 1
    assert "move --all --to system" in done.stderr


def test_seal__of_a_file_that_lies_in_a_home_is_not_opened(host: SealedHost, alice: Person) -> None:
    """A user who got hold of a sealed file learns nothing by putting it into the own home."""
    host.enrol(alice)
    host.seal("--on")
    alice.store.mkdir()
    copy = alice.store / "tokens"
    shutil.copyfile(host.tokens_of(alice), copy)
    copy.chmod(0o600)
    for path in (alice.store, copy):
        shutil.chown(path, alice.uid, alice.gid)
    done = host.directory.run("softtoken-enroll", "--list", "--user", alice.name, "--store", "%h/.softtoken")
    assert "not ASCII" in done.refused().error or "not JSON" in done.refused().error


@pytest.fixture
def tpm(host: SealedHost, outside: Path) -> Iterator[TPM]:
    """The TPM of the host."""
    made = TPM(host, outside / "tpm")
    yield made
    made.turn_off()


@needs("swtpm", "systemd-creds")
def test_tpm__opens_the_key_at_each_start_of_the_machine(host: SealedHost, tpm: TPM, alice: Person) -> None:
    phone = host.enrol(alice)
    host.seal("--on", "--tpm")
    assert [path.name for path in host.keys.iterdir()] == ["host.key.tpm"]
    assert (host.loaded.stat().st_mode & 0o777, host.loaded.parent.stat().st_mode & 0o777) == (0o400, 0o700)
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")
    assert host.findings() == []
    shutil.rmtree(host.loaded.parent)
    tpm.turn_off()
    tpm.turn_on()
    assert host.log_in(alice, phone.hotp_at(phone.counter)) == (PAM_AUTH_ERR, 1, "sealed")
    assert "systemctl restart softtoken-key.service" in host.log.outcomes()[-1]["detail"]
    assert [severity for severity, _, _ in host.findings()] == ["error", "error"]
    host.start_unit()
    assert host.loaded.stat().st_mode & 0o777 == 0o400
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")
    host.seal("--rotate")
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")
    host.start_unit()
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")
    assert host.run("--off").status == 0
    assert not list(host.keys.iterdir())
    assert not host.loaded.exists()
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")


@needs("swtpm", "systemd-creds")
def test_tpm__of_another_machine_opens_nothing_and_the_recovery_key_does(
    host: SealedHost, tpm: TPM, alice: Person
) -> None:
    phone = host.enrol(alice)
    text = host.seal("--on", "--tpm")
    shutil.rmtree(host.loaded.parent)
    tpm.forget_everything()
    done = host.run("--on")
    assert done.status == 1
    assert "seal --recover" in done.stderr
    status, shown = host.recover(text, options=["--tpm"])
    assert status == 0, shown
    shutil.rmtree(host.loaded.parent)
    host.start_unit()
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")


@needs("swtpm", "systemd-creds")
def test_tpm__takes_over_a_key_from_its_file_and_asks_for_a_state_of_the_machine(
    host: SealedHost, tpm: TPM, alice: Person
) -> None:
    phone = host.enrol(alice)
    host.seal("--on")
    done = host.run("--on", "--tpm", "--pcrs", "16")
    assert done.status == 0, done.stderr
    assert not host.key_file.exists()
    assert host.status()["pcrs"] == "16"
    host.seal("--rotate")
    assert host.status()["pcrs"] == "16"
    assert host.log_in(alice, phone.hotp()) == (PAM_SUCCESS, 1, "accepted")
    shutil.rmtree(host.loaded.parent)
    tpm.extend(16)
    assert host.unit_status() != 0
    assert host.log_in(alice, phone.hotp_at(phone.counter)) == (PAM_AUTH_ERR, 1, "sealed")


def test_tpm__where_there_is_none_changes_nothing(host: SealedHost, alice: Person) -> None:
    host.enrol(alice)
    before = host.tokens_of(alice).read_bytes()
    done = host.run("--on", "--tpm")
    assert done.status == 1
    assert "the TPM cannot be used" in done.stderr
    assert not list(host.keys.iterdir())
    assert host.tokens_of(alice).read_bytes() == before


@needs("swtpm", "systemd-creds")
def test_seal__key_is_in_no_log_and_no_argument(host: SealedHost, tpm: TPM, alice: Person) -> None:
    phone = host.enrol(alice)
    trace = host.directory.directory / "trace"
    traced = ("strace", "-f", "-v", "-s", "4096", "-e", "trace=execve", "-o", str(trace), str(host.program))
    secrets = []
    for words in (("--on",), ("--rotate",), ("--on", "--tpm"), ("--rotate",)):
        if words == ("--on", "--tpm"):
            assert host.run(*words, around=traced[:-1]).status == 0
        else:
            secrets.append(host.seal(*words, program=traced))
        secrets += [key.hex() for key in _keys_of(host)]
        assert host.log_in(alice, phone.hotp())[0] == PAM_SUCCESS
        text = trace.read_text() + "".join(host.log.lines)
        assert "execve" in text
        assert not [each for each in secrets if each in text or each.replace("-", "") in text]
    assert [secret for secret in secrets if secret in host.loaded.read_text()], "the search finds what is there"


def _keys_of(host: SealedHost) -> list[bytes]:
    path = host.key_file if host.key_file.exists() else host.loaded
    return [*host_key.parse(path.read_bytes()).by_id().values()]


def test_seal__changes_while_users_log_in_and_enrol(host: SealedHost, alice: Person, bob: Person) -> None:
    """No login is refused meanwhile, and no file is left with a key that is gone."""
    alices, bobs = host.enrol(alice), host.enrol(bob)

    def change() -> None:
        for _ in range(2):
            host.seal("--on")
            host.seal("--rotate")
            assert host.run("--off").status == 0
        host.seal("--on")

    logins = 0
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(change)
        while not work.done():
            assert host.log_in(alice, alices.hotp()) == (PAM_SUCCESS, 1, "accepted")
            words = ("--user", bob.name, "--no-confirm", "--new-recovery-codes", "--recovery-codes=1")
            done = host.directory.run("softtoken-enroll", *words)
            assert done.status == 0, done.stderr
            logins += 1
        work.result()
    assert logins > 1
    assert (host.status()["sealed"], host.status()["unusable"]) == (2, [])
    assert host.log_in(bob, bobs.hotp()) == (PAM_SUCCESS, 1, "accepted")
