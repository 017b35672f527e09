"""Swap a user's files for links to other files, as fast as possible, during root's login (CVE-2025-6020's kind).

A file that root checks by name can be another one when it is opened. So an attempt must use the real file or be
refused: no code of another user's token lets in, no code lets in twice, and nothing outside changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_SUCCESS, Service
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.pam_scene import NO_CODES, PROMPT, Pam, oathtool, steady_step
from tests.support.sampling import amount
from tests.support.system_log import SystemLog

LOGINS = amount(20, full=40)
STEPS = 20
STORE, TOKENS, STATE = ".softtoken", ".softtoken/tokens", ".softtoken/state"
REFUSALS = {"mismatch", "replayed", "insecure_file", "unusable_file", "not_enrolled", "lock_timeout"}

# One system call swaps two names, so that both always exist.
_EXCHANGE = """
import ctypes, os, sys
HERE, EXCHANGE = -100, 2
true, *others = map(os.fsencode, sys.argv[1:])
renameat2 = ctypes.CDLL(None).renameat2
print("begun", flush=True)
while True:
    for other in others:
        renameat2(HERE, true, HERE, other, EXCHANGE)
        renameat2(HERE, true, HERE, other, EXCHANGE)
"""

_TAKE_AWAY = """
import os, sys
name, aside = sys.argv[1:]
print("begun", flush=True)
while True:
    os.rename(name, aside)
    os.rename(aside, name)
"""

_MAKE_AND_REMOVE = """
import os, sys
print("begun", flush=True)
while True:
    try:
        os.close(os.open(sys.argv[1], os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(sys.argv[1])
    except OSError:
        pass
"""


@contextmanager
def restless(person: Person, script: str, *paths: Path) -> Iterator[None]:
    """Run a process of this user's that changes the user's files again and again during the `with` block."""
    command = ["/usr/bin/python3", "-I", "-c", script, *map(str, paths)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, user=person.uid, group=person.gid, extra_groups=[], cwd="/"
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def give(path: Path, uid: int, gid: int, *, open_to_all: bool = False) -> Path:
    """Change the owner of a path and of everything below it."""
    for each in [path, *path.rglob("*")]:
        os.chown(each, uid, gid)
        if open_to_all:
            each.chmod(0o777 if each.is_dir() else 0o666)
    return path


def copy(source: Path, target: Path) -> Path:
    """Copy a file or a directory with its modes."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
    return target


def fakes(alice: Person, place: str, outside: Path, other_store: Path) -> list[Path]:
    """Create fakes of the user's files beside the store, and return their paths: links, hard links and root's files.

    A fake store or token file holds the token of another user. A fake state file is a copy of Alice's from before the
    logins. If a login took it, used codes would work again.
    """
    model = {STORE: other_store, TOKENS: other_store / "tokens", STATE: alice.store / "state"}[place]
    hers = give(copy(model, outside / "hers"), alice.uid, alice.gid)
    roots = give(copy(model, outside / "roots"), 0, 0, open_to_all=True)
    made = []
    for name, target in (("link-to-hers", hers), ("link-to-roots", roots)):
        made.append(alice.home / name)
        made[-1].symlink_to(target)
    made.append(give(copy(model, alice.home / "planted"), 0, 0, open_to_all=True))
    if place != STORE:
        made.append(alice.home / "hard-link")
        os.link(give(copy(model, outside / "linked"), alice.uid, alice.gid), made[-1])
    return made


def log_in_with_each(service: Service, person: Person, codes: list[str]) -> Counter[str]:
    """Try one code after the other, check that all attempts look alike, and count how often each let in.

    There is only one application: on a machine of two cores the other core is for the process that swaps the files.
    """
    outcomes = service.log_in_often(person, *codes, attempts=len(codes))
    assert [outcome.messages for outcome in outcomes] == len(codes) * [PROMPT]
    return Counter(code for code, outcome in zip(codes, outcomes, strict=True) if outcome.result == PAM_SUCCESS)


@pytest.mark.parametrize("place", [STORE, TOKENS, STATE])
@pytest.mark.claim(
    "The same holds while the user swaps these files for links during the login, and on a disk that hangs."
)
def test_race__swapped_file_of_another_user_neither_counts_nor_changes(
    pam: Pam,
    installed: Installation,
    make_person: Callable[[], Person],
    outside: Path,
    system_log: SystemLog,
    place: str,
) -> None:
    alice, bob = make_person(), make_person()
    hers = oathtool(alice.enrol(installed, "--type=hotp", "--digits=8", NO_CODES), 0, LOGINS)
    bobs = bob.enrol(installed, "--digits=8", "--period=300", NO_CODES)
    others = oathtool(bobs, steady_step(300) + 1, STEPS) * (LOGINS // STEPS)
    swapped = fakes(alice, place, outside, bob.store)
    before = listing(outside)
    with restless(alice, _EXCHANGE, alice.home / place, *swapped):
        service = pam.service("no_throttle", f"look_ahead={LOGINS}", f"window={STEPS}")
        codes = [code for own, other in zip(hers, others, strict=True) for code in (own, other, own)]
        let_in = log_in_with_each(service, alice, codes)
    assert {let_in[code] for code in others} == {0}
    # Both have occurred, or it was no race.
    assert {let_in[code] for code in hers} == {0, 1}
    assert {"accepted", "insecure_file"} < set(system_log.reasons()) <= {"accepted", *REFUSALS}
    assert listing(outside) == before
    assert not [line for line in system_log.lines if str(bobs.record["key"]) in line]


@pytest.mark.parametrize("place", [STORE, TOKENS, STATE])
def test_race__file_that_comes_and_goes_never_counts_as_never_enrolled(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog, place: str
) -> None:
    # Codes of the present step count as used if their record is lost.
    code = alice.enrol(installed, "--period=300", NO_CODES).totp()
    assert pam.service().log_in(alice, code).result == PAM_SUCCESS
    system_log.clear()
    with restless(alice, _TAKE_AWAY, alice.home / place, alice.home / "aside"):
        let_in = log_in_with_each(pam.only_ignore("nullok", "no_throttle"), alice, 2 * LOGINS * [code])
    assert not let_in
    assert set(system_log.reasons()) <= REFUSALS
    assert len(set(system_log.reasons())) > 1  # present and absent have occurred, or it was no race


def test_race__state_that_comes_and_goes_never_counts_as_never_enrolled(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    alice.enrol(installed, NO_CODES)
    (alice.store / "state").unlink()
    with restless(alice, _MAKE_AND_REMOVE, alice.store / "state"):
        let_in = log_in_with_each(pam.only_ignore("nullok", "no_throttle"), alice, 3 * LOGINS * ["no code"])
    assert not let_in
    assert set(system_log.reasons()) <= {"malformed", *REFUSALS}
