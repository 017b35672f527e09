"""Check the vault file: it reveals nothing without the passphrase, and no change to it goes unnoticed."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from pam_softtoken.account import safe_open
from pam_softtoken.device import sealing
from pam_softtoken.device import vault as vault_module
from pam_softtoken.device.entry import Entry
from pam_softtoken.device.sealing import COST, Cost
from pam_softtoken.device.vault import Vault
from pam_softtoken.program_errors import VaultFailed
from tests.support.device import CHEAP, PASSPHRASE, RFC_KEY, RFC_KEY_BASE32, Device, Mistake, hotp, totp, write_vault
from tests.support.disk import fill

WRONG = "the passphrase is wrong, or the file is damaged"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path for a new vault."""
    return tmp_path / "data" / "softtoken" / "vault"


def _names(entries: list[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def _open(path: Path, passphrase: str = PASSPHRASE) -> list[Entry]:
    return Vault(str(path)).open(passphrase.encode())


def test_vault__returns_the_stored_entries(path: Path) -> None:
    put = [totp("Zoë 日本 🔑", b"k", issuer="Ħost", digits=8, period_s=60), hotp("counts", counter=2**40)]
    write_vault(path, put)
    got = _open(path)
    assert [(entry.name, entry.issuer, entry.token.kind, entry.otp_token.digits) for entry in got] == [
        ("Zoë 日本 🔑", "Ħost", "totp", 8),
        ("counts", "", "hotp", 6),
    ]
    assert all(ours.is_same(other) for ours, other in zip(put, got, strict=True))
    assert got[1].otp_token.otp_at(2**40) == put[1].otp_token.otp_at(2**40)


def test_vault__opens_by_rfc_7914_and_rfc_8439_without_our_code(path: Path) -> None:
    """It is opened by openssl's scrypt and by the layout in the module's documentation, without our code."""
    write_vault(path, [totp("alice")], cost=COST)
    sealed = path.read_bytes()
    assert sealed[:20] == b"softtoken vault\n" + bytes([1, 17, 8, 1])
    salt, nonce = sealed[20:36], sealed[36:48]
    options = [f"hexpass:{PASSPHRASE.encode().hex()}", f"hexsalt:{salt.hex()}", "n:131072", "r:8", "p:1"]
    options += ["maxmem_bytes:268435456"]
    command = ["openssl", "kdf", "-keylen", "32", *(word for each in options for word in ("-kdfopt", each)), "SCRYPT"]
    derived = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    content = ChaCha20Poly1305(bytes.fromhex(derived.replace(":", ""))).decrypt(nonce, sealed[48:], sealed[:48])
    assert content.startswith(b'{"version": 1, "entries": [{"name": "alice"')
    assert RFC_KEY_BASE32.encode() in content


def test_vault__only_its_owner_has_access_under_any_umask(device: Device) -> None:
    shell = ["sh", "-c", 'umask 000; exec "$@"', "sh"]
    uri = f"otpauth://totp/alice?secret={RFC_KEY_BASE32}".encode()
    assert device.run("add", typed=uri, before=shell).status == 0
    assert stat.S_IMODE(device.directory.stat().st_mode) == 0o700
    for file in device.directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_vault__shows_neither_names_nor_keys(path: Path) -> None:
    write_vault(path, [totp("alice", issuer="myhost")])
    for word in (b"alice", b"myhost", RFC_KEY, RFC_KEY_BASE32.encode()):
        assert word not in path.read_bytes()


def test_vault__has_a_nonce_of_its_own_at_each_writing_and_a_salt_at_each_passphrase(path: Path) -> None:
    vault = write_vault(path, [])
    seen = []
    for number in range(8):
        with vault.changing() as entries:
            entries.append(totp(f"entry {number}", bytes([number]) * 16))
        seen.append(path.read_bytes())
    assert len({sealed[36:48] for sealed in seen}) == len(seen)
    assert len({sealed[20:36] for sealed in seen}) == 1
    vault.renew(PASSPHRASE.encode())
    assert path.read_bytes()[20:36] != seen[0][20:36]


@pytest.mark.parametrize("bit", range(8))
def test_vault__any_flipped_bit_is_one_clear_error(path: Path, bit: int) -> None:
    write_vault(path, [totp("alice"), hotp("bob")])
    sealed = path.read_bytes()
    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= 1 << bit
        # A cost that would use all memory is refused before a key is derived.
        with pytest.raises(VaultFailed, match=WRONG):
            sealing.unseal(bytes(damaged), PASSPHRASE.encode(), path="vault")


def test_vault__cut_anywhere_or_made_longer_is_one_clear_error(path: Path) -> None:
    write_vault(path, [totp("alice")])
    sealed = path.read_bytes()
    for damaged in [*(sealed[:length] for length in range(len(sealed))), sealed + b"\0", sealed + sealed]:
        with pytest.raises(VaultFailed, match=WRONG):
            sealing.unseal(damaged, PASSPHRASE.encode(), path="vault")


@pytest.mark.parametrize("place", [0, 16, 17, 20, 36, 48, -1])
def test_program__damaged_vault_is_reported_and_not_changed(device: Device, place: int) -> None:
    write_vault(device.path, [totp("alice")])
    sealed = bytearray(device.path.read_bytes())
    sealed[place] ^= 1
    device.path.write_bytes(sealed)
    uri = f"otpauth://totp/bob?secret=A{RFC_KEY_BASE32[1:]}".encode()
    for words, typed in ((("code",), b""), (("add",), uri), (("remove", "alice", "--yes"), b"")):
        mistake = device.refused(*words, typed=typed)
        assert WRONG in mistake.error


@pytest.mark.parametrize("wrong", ["correct hors", "Correct horse", "correct horse ", "x"])
def test_program__wrong_passphrase_is_the_same_error(device: Device, wrong: str) -> None:
    device.hold(totp("alice"))
    assert WRONG in device.refused("code", passphrase=wrong).error


def test_vault__forged_cost_uses_little_memory_and_time() -> None:
    for numbers in ((0, 8, 1), (63, 8, 1), (255, 255, 255), (17, 255, 1), (17, 8, 255), (17, 0, 1), (17, 8, 0)):
        cost = Cost(*numbers)
        assert not cost.is_bearable
        sealed = b"softtoken vault\n" + bytes([1, *cost]) + bytes(16 + 12 + 100)
        with pytest.raises(VaultFailed, match=WRONG):
            sealing.unseal(sealed, b"x", path="vault")
    assert COST.is_bearable


def test_vault__cost_is_raised_at_the_next_writing(path: Path) -> None:
    write_vault(path, [hotp("alice")])
    assert path.read_bytes()[17:20] == bytes(CHEAP)
    vault = Vault(str(path))
    entries = vault.open(PASSPHRASE.encode())
    assert path.read_bytes()[17:20] == bytes(CHEAP)
    vault.next_code(entries[0])
    assert path.read_bytes()[17:20] == bytes(COST)
    assert _names(_open(path)) == ["alice"]


def test_vault__of_a_newer_program_is_not_reported_as_damaged(path: Path) -> None:
    path.parent.mkdir(parents=True)
    key = sealing.SealingKey.new(PASSPHRASE.encode(), CHEAP)
    path.write_bytes(key.seal(b'{"version": 2, "entries": []}'))
    path.chmod(0o600)
    with pytest.raises(VaultFailed, match="newer softtoken"):
        _open(path)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_link, "is a symbolic link"),
        (_pipe, "is not a regular file"),
        (lambda path: path.chmod(0o644), "is open to others (mode 0644)"),
        (lambda path: path.chmod(0o620), "is open to others (mode 0620)"),
        (lambda path: os.chown(path, 12345, -1), "belongs to uid 12345"),
        (lambda path: os.link(path, path.with_name("second")), "has 2 links"),
        (lambda path: path.parent.chmod(0o777), "others can write it (mode 0777)"),
        (lambda path: os.chown(path.parent, 12345, -1), "belongs to uid 12345"),
    ],
)
def test_program__vault_that_others_could_change_is_reported(
    device: Device, spoil: Callable[[Path], None], told: str
) -> None:
    device.hold(totp("alice"))
    spoil(device.path)
    done = device.run("code")
    assert (done.status, done.stdout) == (1, "")
    mistake = Mistake(done.stderr)
    assert told in mistake.error
    # The opened file is checked, too, in case it was exchanged after the first check.
    with pytest.raises(VaultFailed, match=re.escape(told)):
        device.content()
    if "mode" in told:
        where = device.directory if "write" in told else device.path
        assert mistake.hint.endswith(f"chmod {'700' if 'write' in told else '600'} {where}")


def test_vault__two_writers_lose_nothing(path: Path) -> None:
    write_vault(path, [])

    def add(number: int) -> None:
        vault = Vault(str(path), cost=CHEAP)
        vault.open(PASSPHRASE.encode())
        for place in range(10):
            with vault.changing() as entries:
                entries.append(totp(f"{number} {place}", bytes([number, place]) * 10))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(_names(_open(path))) == sorted(f"{number} {place}" for number in range(4) for place in range(10))


def test_vault__process_with_an_open_vault_notices_a_changed_passphrase(path: Path) -> None:
    vault = write_vault(path, [hotp("alice")])
    other = Vault(str(path), cost=CHEAP)
    entries = other.open(PASSPHRASE.encode())
    vault.renew(b"another")
    with pytest.raises(VaultFailed, match=WRONG):
        other.next_code(entries[0])
    assert _names(_open(path, "another")) == ["alice"]


def test_vault__second_writer_waits_for_a_limited_time_and_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = write_vault(path, [hotp("alice")])
    monkeypatch.setattr(vault_module, "LOCK_TIMEOUT_S", 0.01)
    held = os.open(f"{path}.lock", os.O_RDWR)
    safe_open.lock(held, 1, path="lock")
    before = path.read_bytes()
    with pytest.raises(VaultFailed, match="another process has held the lock") as caught, vault.changing():
        pass
    assert caught.value.hint == "another softtoken is changing it; wait until it ends, then start again"
    assert path.read_bytes() == before
    assert _names(_open(path)) == ["alice"]  # reading needs no lock
    os.close(held)
    assert vault.next_code(hotp("alice")) == "755224"


def test_vault__exception_in_a_change_leaves_the_file_unchanged(path: Path) -> None:
    vault = write_vault(path, [totp("alice")])
    before = path.read_bytes()

    def interrupt() -> None:
        with vault.changing() as entries:
            entries.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert path.read_bytes() == before


def test_vault__remains_of_killed_writers_go_at_the_next_writing(path: Path) -> None:
    vault = write_vault(path, [hotp("alice")])
    (path.parent / ".vault.0123456789abcdef").write_bytes(b"half")
    vault.next_code(hotp("alice"))
    assert sorted(file.name for file in path.parent.iterdir()) == ["vault", "vault.lock"]


@pytest.mark.parametrize("name", [".vault.x", ".vault.0123456789abcdef"])
def test_vault__directory_named_like_remains_is_in_nobodys_way(path: Path, name: str) -> None:
    vault = write_vault(path, [hotp("alice")])
    (path.parent / name).mkdir()
    assert vault.next_code(hotp("alice")) == "755224"
    assert (path.parent / name).is_dir()


@pytest.mark.parametrize("name", [".vault.mine", ".vault.swp", ".vault.0123456789ABCDEF", ".vault.0123456789abcdef0"])
def test_vault__file_that_no_softtoken_left_stays(path: Path, name: str) -> None:
    vault = write_vault(path, [hotp("alice")])
    (path.parent / name).write_bytes(b"the person's own")
    vault.next_code(hotp("alice"))
    assert (path.parent / name).read_bytes() == b"the person's own"


@pytest.mark.parametrize("words", [("list",), ("passwd", "--new-passphrase-fd", "0")])
def test_program__too_little_memory_is_one_clear_error(device: Device, words: tuple[str, ...]) -> None:
    write_vault(device.path, [totp("alice")], cost=COST)
    before = device.path.read_bytes()
    shell = ["sh", "-c", 'ulimit -v 150000; exec "$@"', "sh"]
    done = device.run(*words, before=shell, typed=b"another\n")
    assert (done.status, done.stdout) == (1, "")
    mistake = Mistake(done.stderr)
    assert mistake.error == "there is too little memory for the vault, which takes 128 MiB; nothing was changed"
    assert "ulimit -v" in mistake.hint
    assert device.path.read_bytes() == before


@pytest.fixture
def small_disk(device: Device) -> Iterator[Device]:
    """A device with its data on a separate disk of 64 KiB."""
    device.data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", device.data], check=True)
    yield device
    subprocess.run(["umount", device.data], check=True)


def test_renewal__whose_name_cannot_be_synced_does_not_pass_for_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who believes that the old passphrase stays forgets the new one."""
    write_vault(path, [totp("alice")])
    vault = Vault(str(path), cost=CHEAP)
    vault.open(PASSPHRASE.encode())
    fsync = os.fsync

    def fail_for_directories(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(5, os.strerror(5))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_directories)
    with pytest.raises(VaultFailed, match="the change is in place") as caught:
        vault.renew(b"another one")
    assert "nothing was changed" not in caught.value.message
    assert _names(_open(path, "another one")) == ["alice"]


def test_full_disk__shows_no_hotp_code_and_loses_nothing(small_disk: Device) -> None:
    small_disk.hold(hotp("alice"))
    fill(small_disk.data)
    mistake = small_disk.refused("code")
    assert "No space left on device; nothing was changed" in mistake.error
    assert mistake.hint == "make room on the disk and start again"
    (small_disk.data / "filler").unlink()
    assert small_disk.did("code") == "755224\n"


def test_read_only__shows_totp_and_no_hotp_codes(small_disk: Device) -> None:
    small_disk.hold(hotp("counts"), totp("ticks"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk.data], check=True)
    assert len(small_disk.did("code", "ticks")) == 7
    assert "Read-only file system" in small_disk.refused("code", "counts").error


def test_vault__too_large_one_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = write_vault(path, [])
    before = path.read_bytes()
    monkeypatch.setattr(vault_module, "MAX_BYTES", 1000)
    with pytest.raises(VaultFailed, match="larger than 1000 bytes"), vault.changing() as entries:
        entries.extend(totp(f"entry {number}", bytes([number]) * 16) for number in range(50))
    assert path.read_bytes() == before
