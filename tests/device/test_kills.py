"""Kill the program at each system call of a write: no code is ever shown twice, and the vault stays intact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pam_softtoken.device.vault import Vault
from tests.support.device import CHEAP, PASSPHRASE, RFC_HOTP, TIMEOUT_S, hotp, totp, write_vault
from tests.support.fault import Call, is_unsteady
from tests.support.installation import TREE
from tests.support.sampling import sampled

_SCRIPT = f"""\
import sys
sys.path.insert(0, {str(TREE)!r})
from pam_softtoken.device.sealing import Cost
from pam_softtoken.device.vault import Vault
vault = Vault(sys.argv[1], cost=Cost(*{tuple(CHEAP)!r}))
entries = vault.open({PASSPHRASE.encode()!r})
open("/dev/null").close()  # the mark from which on it is killed
{{act}}
"""
SHOW = "print(vault.next_code(entries[0]), flush=True)"
RENEW = "vault.renew(b'another'); print('renewed', flush=True)"
_MARK = '"/dev/null"'


def _run(path: Path, act: str, *strace: str) -> subprocess.CompletedProcess[str]:
    command = ["strace", "-o", str(path.parent.with_name("trace")), *strace]
    command += [sys.executable, "-I", "-c", _SCRIPT.format(act=act), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


def _calls(path: Path, act: str) -> list[Call]:
    """List the calls of a write, from the mark to the end."""
    assert _run(path, act).returncode == 0
    seen: dict[str, int] = {}
    calls = []
    for line in path.parent.with_name("trace").read_text().splitlines():
        name = line.partition("(")[0]
        seen[name] = seen.get(name, 0) + 1
        calls.append(Call(name, seen[name], line))
    mark = max(number for number, call in enumerate(calls) if call.name == "openat" and _MARK in call.text)
    return [call for call in calls[mark + 1 :] if not is_unsteady(call) and call.name.isidentifier()]


def _made(path: Path) -> Path:
    write_vault(path, [hotp("counts"), totp("ticks", b"another key of it")])
    return path


@pytest.mark.parametrize("how", ["signal=KILL", "error=EIO", "error=ENOSPC"])
def test_disturbed__at_any_call_no_code_is_shown_twice_and_the_vault_is_whole(tmp_path: Path, how: str) -> None:
    calls = _calls(_made(tmp_path / "first" / "softtoken" / "vault"), SHOW)
    assert {"renameat", "fsync", "fdatasync", "pwrite64", "flock"} <= {call.name for call in calls}
    complaints = []
    for number, call in enumerate(sampled(calls, 0.3)):
        path = _made(tmp_path / str(number) / "softtoken" / "vault")
        inject = ("-e", f"trace={call.name}", "-e", f"inject={call.name}:{how}:when={call.number}")
        shown = _run(path, SHOW, *inject).stdout.split()
        vault = Vault(str(path), cost=CHEAP)
        entries = vault.open(PASSPHRASE.encode())
        shown.append(vault.next_code(entries[0]))
        shown.append(vault.next_code(entries[0]))
        if [entry.name for entry in entries] != ["counts", "ticks"] or len(set(shown)) != len(shown):
            complaints.append(f"{call}: {shown}")
        if not set(shown) <= set(RFC_HOTP[:4]):
            complaints.append(f"{call}: passed over more than one: {shown}")
    assert not complaints


def test_killed__at_any_call_the_vault_has_the_old_passphrase_or_the_new_one(tmp_path: Path) -> None:
    complaints = []
    calls = _calls(_made(tmp_path / "first" / "softtoken" / "vault"), RENEW)
    for number, call in enumerate(sampled(calls, 0.3)):
        path = _made(tmp_path / str(number) / "softtoken" / "vault")
        inject = ("-e", f"trace={call.name}", "-e", f"inject={call.name}:signal=KILL:when={call.number}")
        was_told = "renewed" in _run(path, RENEW, *inject).stdout
        opened = [word for word in (PASSPHRASE, "another") if _opens(path, word)]
        if len(opened) != 1 or (was_told and opened != ["another"]):
            complaints.append(f"{call}: {opened}")
    assert not complaints


def _opens(path: Path, passphrase: str) -> bool:
    try:
        return len(Vault(str(path)).open(passphrase.encode())) == 2
    except Exception:
        return False
