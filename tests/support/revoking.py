"""What users can do against the revocation of their own tokens, as scripts that run as this user."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.account import Person

HOLD_EVERY_LOCK = """
import fcntl, os, sys
os.chdir(sys.argv[1])
held = [os.open(path, os.O_RDONLY) for path in (".", "tokens", "state")]
for descriptor in held:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
print("ready", flush=True)
sys.stdin.read()
"""
HOLD_LEASES = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
os.chdir(sys.argv[1])
for name in ("tokens", "state"):
    fcntl.fcntl(os.open(name, os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("ready", flush=True)
sys.stdin.read()
"""
PIPES_FOR_FILES = """
import os, sys
os.chdir(sys.argv[1])
for name in ("tokens", "state"):
    os.rename(name, name + ".kept")
    os.mkfifo(name, 0o600)
print("ready", flush=True)
sys.stdin.read()
for name in ("tokens", "state"):
    try:
        os.unlink(name)
    except FileNotFoundError:
        pass
    os.rename(name + ".kept", name)
"""
PUT_COPIES_BACK = """
import os, select, shutil, sys
directory = sys.argv[1]
kept = directory + ".kept"
shutil.copytree(directory, kept)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for name in ("state", "tokens"):
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
            shutil.copy(f"{kept}/{name}", f"{directory}/.{name}.copy")
            os.chmod(f"{directory}/.{name}.copy", 0o600)
            os.rename(f"{directory}/.{name}.copy", f"{directory}/{name}")
        except OSError:
            pass
shutil.rmtree(directory, ignore_errors=True)
os.rename(kept, directory)
"""
SWAP_THE_DIRECTORY = """
import os, select, sys
directory = sys.argv[1]
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    os.rename(directory, directory + ".away")
    os.symlink("/etc", directory)
    os.unlink(directory)
    os.rename(directory + ".away", directory)
"""


@contextmanager
def against(person: Person, script: str, directory: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of these scripts as a person during the block, or as root if `directory` is root's own."""
    identity = {"user": person.uid, "group": person.gid, "extra_groups": []} if directory is None else {}
    process = subprocess.Popen(
        ["/usr/bin/python3", "-I", "-c", script, directory or str(person.store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **identity,  # type: ignore[call-overload]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    try:
        yield process
    finally:
        process.communicate(timeout=60)
