"""Fail every system call of the approver once. sudo never runs a command whose signature is wrong.

The right signature may be refused then, and the next one is accepted as if nothing had happened. An ordinary run has a
sample of the calls, which changes from run to run and always has those that store a wrong answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.sampling import sampled, source
from tests.support.signed_sudo import APPROVER, PLUGIN, Laptop, Result, SignedSudo

RUN = ("printf", "it%sran", "_")
WRONG = "12345678"
STORING = ("pwrite64", "fdatasync", "fsync", "flock")
ERRORS = {
    **dict.fromkeys(STORING, ("EIO", "ENOSPC", "EROFS", "ENOLCK")),
    **dict.fromkeys(("read", "recvfrom", "pread64"), ("EIO",)),
    **dict.fromkeys(("openat", "newfstatat", "readlink", "mkdir", "access"), ("EACCES", "ENOENT", "EIO")),
    **dict.fromkeys(("mmap", "brk", "mprotect"), ("ENOMEM",)),
    **dict.fromkeys(("write", "sendto"), ("EPIPE",)),
    **dict.fromkeys(("getrandom",), ("ENOSYS", "EIO")),
    **dict.fromkeys(("clock_gettime", "lseek", "fcntl", "close", "socket", "connect"), ("EINVAL",)),
}
WRAPPER = """#!/usr/bin/python3 -I
import os
os.execv("/usr/bin/strace", ["strace", {options}, "/usr/bin/python3", "-I", "-S", "-B", "{approver}"])
"""


class Traced:
    """A host whose approver runs under strace."""

    def __init__(self, host: SignedSudo) -> None:
        self.host = host
        self._directory = host.mounts.directory / "plugins"
        self._wrapper = self._directory / "wrapper"

    def trace(self, *options: str) -> Path:
        """Set the options of strace, and return the file that it writes."""
        path = self._directory / "trace"
        words = ["-o", str(path), "-qq", *options]
        self._wrapper.write_text(WRAPPER.format(options=", ".join(map(repr, words)), approver=APPROVER))
        self._wrapper.chmod(0o755)
        self.host.conf.write_text(f"Plugin softtoken_approval {PLUGIN} approver={self._wrapper}\n")
        return path


@pytest.fixture
def traced(alices_sudo: SignedSudo) -> Traced:
    return Traced(alices_sudo)


def ask(traced: Traced, alice: Person, code: str) -> Result:
    asking = traced.host.ask(alice, *RUN)
    return asking.answer(code) if asking.asks else asking.end()


def failures(trace: Path) -> Iterator[tuple[str, int, str]]:
    """Return name, number and error of each call that the approver makes from its first frame on."""
    seen: Counter[str] = Counter()
    begun = False
    for line in trace.read_text(errors="replace").splitlines():
        match = re.match(r"(\w+)\(", line)
        if match is None:
            continue
        name = match[1]
        seen[name] += 1
        begun = begun or line.startswith(r'read(0, "\1S')
        if begun and name in ERRORS:
            yield name, seen[name], source((name, seen[name])).choice(ERRORS[name])


@pytest.mark.claim("Whatever the approver cannot do, no command with a wrong signature runs.")
def test_wrong_signature__is_refused_whatever_fails(traced: Traced, alice: Person) -> None:
    trace = traced.trace()
    assert not ask(traced, alice, WRONG).ran
    every = list(failures(trace))
    assert {name for name, _, _ in every} >= {"read", "write", "pwrite64", "openat"}
    for name, number, error in sampled(every, 0.25, always=[each for each in every if each[0] in STORING]):
        (traced.host.store_of(alice) / "state").write_bytes(b"")
        traced.trace(f"--inject={name}:error={error}:when={number}")
        assert not ask(traced, alice, WRONG).ran, (name, number, error)


def test_right_signature__works_again_after_any_failure(traced: Traced, alice: Person, laptop: Laptop) -> None:
    def sign() -> Result:
        asking = traced.host.ask(alice, *RUN)
        return asking.answer(laptop.sign(asking.text)) if asking.asks else asking.end()

    trace = traced.trace()
    assert sign().ran
    for name, number, error in sampled(list(failures(trace)), 0.15):
        traced.trace(f"--inject={name}:error={error}:when={number}")
        sign()
        traced.host.set_plugin(PLUGIN)
        assert sign().ran, (name, number, error)
