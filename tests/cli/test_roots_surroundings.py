"""Run root's programs in a user's environment, as `su` leaves it: nothing that a user can write is opened.

The dynamic linker and the C library read some variables (LD_*, LOCPATH, GCONV_PATH) of any program before a line of
ours runs. `sudo` removes these.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.admin import Admin
from tests.support.device import Device, Mistake, totp
from tests.support.enroller import ENVIRONMENT, Enroller
from tests.support.installation import TREE, Installation
from tests.support.listing import listing
from tests.system.test_set_uid_hosts import Traps

COMMANDS = {
    "help": ["softtoken-admin", "--help"],
    "usage": ["softtoken-admin", "no-such-command"],
    "status": ["softtoken-admin", "status"],
    "journal": ["softtoken-admin", "log", "--file", "/nonexistent.journal"],
    "doctor": ["softtoken-admin", "doctor"],
    "move": ["softtoken-admin", "move", "--all", "--to=system", "--dry-run"],
    "enrol": ["softtoken-enroll", "--user=daemon", "--store=/nowhere/%U", "--no-confirm", "--sheet=/nowhere/sheet"],
    "usage of enrol": ["softtoken-enroll", "--no-such-option"],
    "device": ["softtoken", "--help"],
}

FOR_LIBRARIES = ("OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "KRB5_CONFIG", "LDAPCONF", "TERMINFO", "INPUTRC")
"""Variables from which our libraries, or PAM modules that root only tries, load configuration and code."""


def catalogue(directory: Path, translations: dict[str, str]) -> None:
    """Write a catalogue of translations (GNU gettext's MO file) for any Python program."""
    texts = {"": "Content-Type: text/plain; charset=UTF-8\n", **translations}
    ids, values = [each.encode() for each in sorted(texts)], [texts[each].encode() for each in sorted(texts)]
    table, data, start = b"", b"", 28 + 16 * len(ids)
    for word in [*ids, *values]:
        table += struct.pack("<2I", len(word), start + len(data))
        data += word + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(ids), 28, 28 + 8 * len(ids), 0, 0)
    (directory / "LC_MESSAGES").mkdir(parents=True)
    (directory / "LC_MESSAGES" / "messages.mo").write_bytes(head + table + data)


@pytest.fixture
def trapped(alice: Person) -> dict[str, str]:
    """An environment in which everything points to Alice's home, including translations, through `..`."""
    traps = Traps(alice.home)
    catalogue(alice.home / "texts", {"usage: ": "trap: ", "show this help message and exit": "trapped"})
    language = f"../../../../../..{alice.home}/texts"
    places = {name: value for name, value in traps.environment.items() if name not in ("GCONV_PATH", "LOCPATH")}
    places.pop("LD_LIBRARY_PATH")
    places.pop("TZ")  # the C library's
    for_libraries = dict.fromkeys(FOR_LIBRARIES, f"{alice.home}/configuration")
    (alice.home / "configuration").touch()
    places = {**places, **for_libraries, "TMP": str(alice.home)}
    return {**places, "LANGUAGE": language, "LC_MESSAGES": language, "LANG": language}


@pytest.mark.parametrize("what", COMMANDS)
def test_root__opens_nothing_that_the_environment_names(
    installed: Installation, alice: Person, trapped: dict[str, str], tmp_path: Path, what: str
) -> None:
    program, *words = COMMANDS[what]
    before = listing(alice.home)
    calls = tmp_path / "calls"
    trace = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", str(calls)]
    done = subprocess.run(
        [*trace, str(installed.root / "scripts" / program), *words],
        env=trapped, cwd=alice.home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "trap" not in done.stdout + done.stderr
    looks = ("softtoken/tokens", ".softtoken", f'"{alice.home}"')  # files that status and doctor read as Alice
    seen = [line for line in calls.read_text().splitlines() if str(alice.home) in line]
    assert [line for line in seen if not any(each in line for each in looks) and "getcwd" not in line] == []
    assert listing(alice.home) == before


def test_root__hashes_by_no_library_that_the_environment_names(
    installed: Installation, alice: Person, trapped: dict[str, str], tmp_path: Path
) -> None:
    """Recovery codes are hashed by OpenSSL. Its configuration can name code to load."""
    calls = tmp_path / "calls"
    trace = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", str(calls)]
    words = [str(installed.root / "scripts" / "softtoken-enroll"), "--user", alice.name, "--no-confirm", "--json"]
    done = subprocess.run([*trace, *words], env=trapped, cwd="/", capture_output=True, text=True, check=True)
    assert '"recovery_codes": ["' in done.stdout
    assert [line for line in calls.read_text().splitlines() if f"{alice.home}/configuration" in line] == []


@pytest.mark.parametrize("script", ["install", "demo"])
def test_script__of_root_ignores_path_and_tmpdir_of_the_environment(
    alice: Person, trapped: dict[str, str], tmp_path: Path, script: str
) -> None:
    """Run the script up to where it installs packages. There it shows where it would find programs and make files."""
    scripts = tmp_path / "scripts"
    (scripts / "lib").mkdir(parents=True)
    (scripts / "lib" / "packages.sh").write_text("mktemp -u; command -v python3; exit\n")
    copy = scripts / script
    copy.write_text((TREE / "scripts" / script).read_text())
    for name in ("dirname", "id"):
        (alice.home / name).symlink_to(alice.home / "sh")
    shown = subprocess.run(
        ["/bin/sh", str(copy)], env=trapped, cwd="/", capture_output=True, text=True, check=True
    ).stdout
    assert shown.split()[1:] == ["/usr/bin/python3"]
    assert shown.startswith("/tmp/")


class TestVaultInAUsersHome:
    """Run `softtoken` as root, with HOME or XDG_DATA_HOME of a user."""

    @pytest.mark.parametrize("part", [".local", ".local/share", ".local/share/softtoken"])
    def test_root__makes_no_directory_where_a_users_link_leads(self, alice: Person, outside: Path, part: str) -> None:
        (alice.home / part).parent.mkdir(parents=True, exist_ok=True)
        (alice.home / part).symlink_to(outside)
        before = listing(outside), listing(alice.home)
        device = Device(outside / "unused")
        environment = {"HOME": str(alice.home), "XDG_DATA_HOME": ""}
        uri = b"otpauth://totp/x:y?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=x\n"
        for words in (["add", "-"], ["import", "-"], ["list"]):
            done = device.run(*words, typed=uri, environment=environment)
            assert done.status != 0
            Mistake(done.stderr)
        assert (listing(outside), listing(alice.home)) == before

    @pytest.mark.parametrize("variable", ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"])
    def test_root__runs_nothing_that_a_users_keyring_names(
        self, alice: Person, outside: Path, tmp_path: Path, variable: str
    ) -> None:
        traps = Traps(alice.home)
        places = {
            "HOME": ".config/python_keyring",
            "XDG_CONFIG_HOME": "python_keyring",
            "XDG_DATA_HOME": "python_keyring",
        }
        directory = alice.home / places[variable]
        directory.mkdir(parents=True)
        text = f"[backend]\ndefault-keyring=hmac.Keyring\nkeyring-path={alice.home}\n"
        (directory / "keyringrc.cfg").write_text(text)
        (alice.home / "trap_keyring.py").write_text((alice.home / "hmac.py").read_text())
        (directory / "keyringrc.cfg").write_text(text.replace("hmac", "trap_keyring"))
        device = Device(tmp_path / "data")
        device.hold(totp("work"))
        own = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": str(device.data)}
        done = device.run("list", "--keyring", environment={**own, variable: str(alice.home)}, passphrase=None)
        assert traps.tale == []
        assert done.status != 0
        assert "Traceback" not in done.stderr

    def test_root__imports_no_file_through_a_users_link(self, alice: Person, outside: Path, tmp_path: Path) -> None:
        secret = outside / "secret"
        secret.write_text("otpauth://totp/x:y?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=x\n")
        (alice.home / "link").symlink_to(secret)
        device = Device(tmp_path / "data")
        mistake = device.refused("import", alice.home / "link")
        assert f"{alice.home} belongs to uid {alice.uid}" in mistake.error
        assert mistake.hint.startswith("copy it to a directory that only root can write")
        device.did("import", secret)


def test_log__waits_for_no_pipe(installed: Installation, alice: Person) -> None:
    for name in ("pipe", "pipe.gz"):
        os.mkfifo(alice.home / name)
        done = Admin(installed).run("log", "--file", alice.home / name)
        assert done.status == 1
        assert "is not a regular file" in done.stderr


def test_log__reads_a_descriptor_that_the_caller_opened(installed: Installation) -> None:
    line = "2005-03-18T01:58:29.123456+00:00 host sshd[1]: pam_softtoken(sshd:auth): user=alice result=denied"
    shell = Enroller("bash", "-c", 'exec "$1" log --since 2000-01-01 --json --file <(echo "$0")', line)
    done = Enroller(*shell.program, installed.root / "scripts" / "softtoken-admin").run(environment=ENVIRONMENT)
    assert done.status == 0, done.stderr
