"""Use the passphrase: where it comes from, and where it never goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pam_softtoken.device.sealing import COST
from tests.device import export_maker
from tests.device.published_exports import ACCOUNTS
from tests.support.device import (
    PASSPHRASE,
    PROGRAM,
    REAL_PROGRAM,
    RFC_HOTP,
    RFC_KEY_BASE32,
    Device,
    Mistake,
    hotp,
    totp,
)
from tests.support.enroller import Dialogue
from tests.support.installation import TREE
from tests.support.preload import compile_library
from tests.support.process import wait_until

URI = f"otpauth://totp/alice?secret={RFC_KEY_BASE32}".encode()
NEW = "battery staple"
OLD = "what it was before"


def _refused(person: Dialogue) -> Mistake:
    assert person.finish() == 1
    return Mistake(person.transcript)


def test_terminal__new_passphrase_is_typed_twice_and_not_shown(device: Device) -> None:
    with device.start("add", "--name", "alice") as person:
        person.expect("Key, in Base32: ")
        person.type(RFC_KEY_BASE32)
        for _ in range(3):
            person.expect("New passphrase for the vault: ")
            person.type(PASSPHRASE)
            person.expect("The same again: ")
            person.type("something else")
            person.expect("That was not the same.")
        assert _refused(person).error == "the two passphrases differ; nothing was changed"
        assert PASSPHRASE not in person.transcript
    assert not device.path.exists()


def test_terminal__new_passphrase_that_was_mistyped_once_is_asked_for_again(device: Device) -> None:
    with device.start("add", "--name", "alice") as person:
        person.expect("Key, in Base32: ")
        person.type(RFC_KEY_BASE32)
        for again in ("something else", PASSPHRASE):
            person.expect("New passphrase for the vault: ")
            person.type(PASSPHRASE)
            person.expect("The same again: ")
            person.type(again)
        assert person.finish() == 0
    assert [entry.name for entry in device.content()] == ["alice"]


def test_terminal__is_asked_though_stdin_is_a_pipe(device: Device) -> None:
    device.hold()
    shell = f"echo '{URI.decode()}' | {' '.join(PROGRAM)} add 2>/dev/null"
    with Dialogue(["sh", "-c", shell], person=None, environment=device.environment) as person:
        person.expect("Passphrase of the vault: ")
        person.type(PASSPHRASE)
        assert person.finish() == 0
    assert [entry.name for entry in device.content()] == ["alice"]


def test_terminal__empty_or_interrupted_changes_nothing(device: Device) -> None:
    device.hold(totp("alice"))
    before = device.path.read_bytes()
    with device.start("list") as person:
        person.expect("Passphrase of the vault: ")
        person.type("")
        assert _refused(person).error == "the passphrase is empty; nothing was changed"
    with device.start("remove", "alice") as person:
        person.expect("Passphrase of the vault: ")
        person.press_control("c")
        assert _refused(person).error == "interrupted; nothing was changed"
    assert device.path.read_bytes() == before


def test_no_terminal__error_names_the_cure(device: Device) -> None:
    device.hold(totp("alice"))
    done = device.run("list", passphrase=None)
    assert done.status == 2
    assert "--passphrase-fd 3 3<FILE" in Mistake(done.stderr).hint


@pytest.mark.parametrize("words", [("import", "/dev/fd/9"), ("list", "--passphrase-fd", "9")])
def test_waiting__for_a_pipe_or_a_descriptor_ends_with_ctrl_c(device: Device, words: tuple[str, ...]) -> None:
    device.hold(totp("alice"))
    os.mkfifo(device.data / "pipe")
    # Opened for reading and writing, it never ends. Root would not wait for it by its name.
    command: tuple[str | Path, ...] = ("sh", "-c", 'exec "$@" 9<>"$0"', device.data / "pipe", *PROGRAM, *words)
    with Dialogue(command, person=None, environment=device.environment) as person:
        status = Path(f"/proc/{person.pid}/status")
        # The program catches this signal, and allows it only while it waits; the interpreter also catches SIGINT.
        wait_until(lambda: _lets_in(status, signal.SIGTERM), "it to wait")
        person.press_control("c")
        assert _refused(person).error == "interrupted; nothing was changed"


_CTRL_C_BEFORE_READ = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t read(int descriptor, void *data, size_t size)
{
	static int pressed;

	if (!pressed && isatty(descriptor)) {
		pressed = 1;
		raise(SIGINT);
	}
	return syscall(SYS_read, descriptor, data, size);
}
"""
"""Ctrl-C in the last moment before the program waits, when the interpreter has already checked for signals."""


@pytest.mark.parametrize("words", [("list",), ("list", "--passphrase-fd", "0")])
def test_waiting__hears_a_ctrl_c_of_the_last_moment_before(device: Device, words: tuple[str, ...]) -> None:
    device.hold(totp("alice"))
    device.environment["LD_PRELOAD"] = str(compile_library(device.data / "ctrl_c.so", _CTRL_C_BEFORE_READ))
    with device.start(*words) as person:
        assert _refused(person).error == "interrupted; nothing was changed"


def _lets_in(status: Path, number: signal.Signals) -> bool:
    """Return whether a program that catches a signal lets it through."""
    masks = dict(line.split(":\t") for line in status.read_text().splitlines() if line.startswith("Sig"))
    bit = 1 << (number - 1)
    return bool(int(masks["SigCgt"], 16) & bit and not int(masks["SigBlk"], 16) & bit)


@pytest.mark.parametrize("passphrase", ["", "x" * 1025])
def test_descriptor__without_a_usable_line_is_refused(device: Device, passphrase: str) -> None:
    device.hold(totp("alice"))
    assert "a passphrase has 1 to 1024 bytes" in device.refused("list", status=2, passphrase=passphrase).error


def test_descriptor__can_be_stdin_with_the_key_uri_behind_it(device: Device) -> None:
    done = device.run("add", "--passphrase-fd", "0", passphrase=None, typed=PASSPHRASE.encode() + b"\n" + URI)
    assert done.status == 0, done.stderr
    assert [entry.name for entry in device.content()] == ["alice"]


def test_passphrase__composed_or_not_is_the_same(device: Device) -> None:
    done = device.run("add", passphrase="caf\u00e9", typed=URI)
    assert done.status == 0, done.stderr
    assert device.run("list", passphrase="cafe\u0301").status == 0


@pytest.mark.parametrize("passphrase", ["cafe\u0301", "caf\u00e9"])
@pytest.mark.parametrize("is_typed", [True, False])
def test_passphrase__of_an_export_is_not_normalised(
    device: Device, tmp_path: Path, passphrase: str, is_typed: bool
) -> None:
    device.hold()
    file, passphrases = tmp_path / "aegis.json", tmp_path / "passphrases"
    slot = export_maker.aegis_slot(passphrase, b"m" * 32)
    file.write_text(json.dumps(export_maker.aegis_encrypted(slot)))
    passphrases.write_text(f"{passphrase}\n", encoding="utf-8")
    if is_typed:
        with device.start("import", str(file)) as person:
            for question, typed in (("Passphrase of the export: ", passphrase), ("of the vault: ", PASSPHRASE)):
                person.expect(question)
                person.type(typed)
            assert person.finish() == 0
    else:
        device.did("import", file, "--file-passphrase-fd", "0", typed=passphrases.read_bytes())
    assert len(device.content()) == len(ACCOUNTS)


def test_passwd__old_passphrase_no_longer_works_and_the_cost_is_the_current_one(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.device.PROGRAM", REAL_PROGRAM)
    device.hold(totp("alice"))
    done = device.run("passwd", "--new-passphrase-fd", "0", typed=NEW.encode() + b"\n")
    assert done.status == 0, done.stderr
    assert device.path.read_bytes()[17:20] == bytes(COST)
    assert device.run("list").status == 1
    assert [entry.name for entry in device.content(NEW)] == ["alice"]


def test_passwd__needs_the_old_one(device: Device) -> None:
    device.hold(totp("alice"))
    before = device.path.read_bytes()
    done = device.run("passwd", "--new-passphrase-fd", "0", typed=NEW.encode() + b"\n", passphrase="wrong")
    assert done.status == 1
    assert device.path.read_bytes() == before


def test_passphrase_and_key__are_in_no_argv_environment_output_or_trace_of_a_program(
    device: Device, tmp_path: Path
) -> None:
    """Every started program and every written byte is observed from outside."""
    device.hold(hotp("alice"))
    trace = tmp_path / "trace"
    expressions = ("-e", "trace=execve,write,sendto,sendmsg,pwrite64", "-s", "100000", "-v")
    done = device.run("code", before=["strace", "-f", "-o", str(trace), *expressions])
    assert done.stdout == f"{RFC_HOTP[0]}\n"
    seen = trace.read_text()
    assert "execve" in seen
    assert "pwrite64" in seen
    for secret in (PASSPHRASE, RFC_KEY_BASE32, "12345678901234567890"):
        assert secret not in seen
    assert seen.count(RFC_HOTP[0]) == 1


def test_program__leaves_no_core_with_keys_in_it(device: Device) -> None:
    device.hold(totp("alice"))
    with device.start("list") as person:
        person.expect("Passphrase of the vault: ")
        limits = Path(f"/proc/{person.pid}/limits")
        wait_until(lambda: "Max core file size        1 " in limits.read_text(), "a limit of one byte for cores")


KEYRING = """\
import json, keyring.backend, keyring.errors, pathlib
class Keyring(keyring.backend.KeyringBackend):
    priority = 1
    file = pathlib.Path(__file__).with_name("kept.json")
    def _kept(self):
        return json.loads(self.file.read_text()) if self.file.exists() else {}
    def get_password(self, service, username):
        return self._kept().get(f"{service} {username}")
    def set_password(self, service, username, password):
        if self.file.with_name("locked").exists():
            raise keyring.errors.PasswordSetError(password)
        self.file.write_text(json.dumps(self._kept() | {f"{service} {username}": password}))
"""
"""A stand-in for a desktop's keyring, in keyring's own configuration file, see keyring(1)."""


@pytest.fixture
def keyring(device: Device, tmp_path: Path) -> Path:
    """Set up a keyring for the device, and return the place of its content."""
    (tmp_path / "desk_keyring.py").write_text(KEYRING)
    directory = device.data / "python_keyring"  # keyring looks for it in $XDG_DATA_HOME or $XDG_CONFIG_HOME
    directory.mkdir(parents=True)
    text = f"[backend]\ndefault-keyring=desk_keyring.Keyring\nkeyring-path={tmp_path}\n"
    (directory / "keyringrc.cfg").write_text(text)
    device.environment["XDG_CONFIG_HOME"] = str(device.data)
    return tmp_path / "kept.json"


def test_keyring__has_the_passphrase_only_after_it_was_asked_for_and_right(device: Device, keyring: Path) -> None:
    device.hold(totp("alice"))
    for typed, status in (("wrong", 1), (PASSPHRASE, 0)):
        with device.start("list", "--keyring") as person:
            person.expect("Passphrase of the vault: ")
            person.type(typed)
            assert person.finish() == status
        assert keyring.exists() == (status == 0)
    assert device.run("list", "--keyring", passphrase=None).status == 0
    assert device.run("list", passphrase=None).status == 2


def test_keyring__gets_the_new_passphrase(device: Device, keyring: Path) -> None:
    device.hold(totp("alice"))
    with device.start("passwd", "--keyring") as person:
        for question, typed in (("Passphrase of", PASSPHRASE), ("New passphrase", NEW), ("same again", NEW)):
            person.expect(question)
            person.type(typed)
        assert person.finish() == 0
    assert device.run("list", "--keyring", passphrase=None).status == 0
    assert [entry.name for entry in device.content(NEW)] == ["alice"]
    assert PASSPHRASE not in keyring.read_text() or NEW in keyring.read_text()


def test_keyring__stale_one_is_corrected_at_a_terminal(device: Device, keyring: Path) -> None:
    device.hold(totp("alice"))
    keyring.write_text(json.dumps({f"softtoken {device.path}": OLD}))
    for typed, status in (("wrong", 1), (PASSPHRASE, 0)):
        with device.start("list", "--keyring") as person:
            person.expect("The passphrase in the keyring does not open the vault. Passphrase of the vault: ")
            person.type(typed)
            assert person.finish() == status
        assert list(json.loads(keyring.read_text()).values()) == [typed if status == 0 else OLD]
    assert device.run("list", "--keyring", passphrase=None).status == 0


def test_keyring__stale_one_is_an_error_without_a_terminal(device: Device, keyring: Path) -> None:
    device.hold(totp("alice"))
    keyring.write_text(json.dumps({f"softtoken {device.path}": OLD}))
    done = device.run("list", "--keyring", passphrase=None)
    assert (done.status, done.stdout) == (1, "")
    mistake = Mistake(done.stderr)
    assert "the passphrase in the keyring is wrong, or the file is damaged" in mistake.error
    assert "softtoken list --keyring" in mistake.hint
    assert not mistake.before
    assert OLD not in done.stderr


def test_keyring__that_fails_after_the_change_does_not_hide_the_change(device: Device, keyring: Path) -> None:
    device.hold(totp("alice"))
    keyring.write_text(json.dumps({f"softtoken {device.path}": PASSPHRASE}))
    keyring.with_name("locked").touch()
    with device.start("passwd", "--keyring") as person:
        for question in ("New passphrase", "same again"):
            person.expect(question)
            person.type(NEW)
        assert "the vault has the new passphrase, and the keyring does not" in _refused(person).error
    assert [entry.name for entry in device.content(NEW)] == ["alice"]


def test_keyring__failure_is_reported_without_a_secret(device: Device, keyring: Path) -> None:
    device.hold(totp("alice"))
    device.environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    done = device.run("list", "--keyring", passphrase=None)
    assert done.status == 1
    assert Mistake(done.stderr).error == "the keyring cannot be used: NoKeyringError"


@pytest.mark.parametrize(
    ("library", "words", "told"),
    [
        ("cryptography", ("list",), "apt install python3-cryptography, or pip install 'pam-softtoken[device]'"),
        ("keyring", ("list", "--keyring"), "apt install python3-keyring, or pip install 'pam-softtoken[keyring]'"),
    ],
)
def test_library__missing_one_is_an_error_with_the_cure(
    device: Device, library: str, words: tuple[str, ...], told: str
) -> None:
    device.hold(totp("alice"))
    source, end = os.pipe()
    os.write(end, f"{PASSPHRASE}\n".encode())
    os.close(end)
    where = [] if "--keyring" in words else ["--passphrase-fd", str(source)]
    done = subprocess.run(
        [sys.executable, "-I", "-c", _without(library), *words, *where],
        env=device.environment, capture_output=True, text=True, check=False, pass_fds=(source,),
    )  # fmt: skip
    os.close(source)
    assert done.returncode == 1
    assert told in Mistake(done.stderr).hint


def test_library__missing_one_of_the_table_is_an_error_with_the_cure(device: Device) -> None:
    device.hold(hotp("alice"))
    command = [sys.executable, "-I", "-c", _without("prompt_toolkit"), "code"]
    with Dialogue(command, person=None, environment=device.environment) as person:
        person.expect("Passphrase of the vault: ")
        person.type(PASSPHRASE)
        assert person.finish() == 1
        said = person.transcript[person.transcript.index("softtoken: error") :]
    mistake = Mistake(said)
    assert mistake.error == "the live table needs the prompt_toolkit library"
    assert "apt install python3-prompt-toolkit, or pip install 'pam-softtoken[device]'" in mistake.hint
    assert "softtoken code NAME" in mistake.hint
    done = subprocess.run(
        [*command, "alice", "--passphrase-fd", "0"], input=f"{PASSPHRASE}\n",
        env=device.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{RFC_HOTP[0]}\n")


def _without(library: str) -> str:
    """Return a script that runs the program as on a machine without a library."""
    return (
        "import sys; from importlib.abc import MetaPathFinder\n"
        "class Gone(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name.split('.')[0] == {library!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        f"sys.path.insert(0, {str(TREE)!r})\n"
        "from pam_softtoken.device.program import main\nsys.exit(main())\n"
    )
