"""Run out of memory: each allocation of the host's side fails once, and so do those of the backend.

Other modules have returned `PAM_IGNORE` in this case (CVE-2025-23013). Here it is a denial, and never a crash.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_IGNORE, PAM_SUCCESS, Service
from tests.support.installation import TREE, Installation
from tests.support.pam_scene import NO_CODES, Pam, oathtool, wrong_code

ALL_IGNORED = 6
"""libpam's result for a stack in which all modules returned `PAM_IGNORE`."""
MANY = 200
STARVED = TREE / "tests" / "fuzz" / "starved_backend.py"


@pytest.fixture(scope="module")
def host(world: Path) -> Path:
    """The PAM application that runs out of memory."""
    program = world / "allocation_host"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-fno-builtin"]
    source = TREE / "tests" / "fuzz" / "allocation_host.c"
    subprocess.run(["gcc", *flags, "-o", program, source, "-lpam"], check=True)
    return program


def fewest_allocations() -> int:
    """Return what a login has more of. libpam 1.7 itself has fewer than libpam 1.5."""
    command = ["dpkg-query", "--show", "--showformat=${Version}", "libpam0g"]
    version = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return 8 if version >= "1.7" else 10


def starve_host(host: Path, service: Service, user: Person, answers: list[str], *options: str) -> list[int]:
    """Fail each allocation, and return the PAM codes, or the signals as negative numbers."""
    command = [str(host), str(service.directory), service.name, user.name, ",".join(answers), "1", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    lines = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    # All were tried but the last one, and a login has many allocations.
    assert [there for _, _, there in lines] == [1] * (len(lines) - 1) + [0]
    assert len(lines) > fewest_allocations()
    return [result for _, result, _ in lines]


def assert_denied(results: list[int]) -> None:
    """Check that nobody got in, that nothing crashed, and that our module never returned PAM_IGNORE."""
    assert min(results) >= 0
    assert not {PAM_SUCCESS, PAM_IGNORE, ALL_IGNORED} & set(results)


ONE_OR_ALL = pytest.mark.parametrize("options", [(), ("--from",)], ids=["one-fails", "all-behind-fail"])


@ONE_OR_ALL
def test_host__without_memory_denies_a_wrong_code(
    host: Path, pam: Pam, alice: Person, phone: Phone, options: tuple[str, ...]
) -> None:
    results = starve_host(host, pam.service("nullok", "no_throttle"), alice, [wrong_code(phone)], *options)
    assert_denied(results)
    assert results[-1] == PAM_AUTH_ERR


@ONE_OR_ALL
def test_host__without_memory_never_ignores_an_enrolled_user(
    host: Path, pam: Pam, alice: Person, phone: Phone, options: tuple[str, ...]
) -> None:
    """The stack lets in users whom our module ignores, and nobody else."""
    results = starve_host(host, pam.only_ignore("nullok", "no_throttle"), alice, [wrong_code(phone)], *options)
    assert min(results) >= 0
    assert PAM_SUCCESS not in results


def test_host__without_memory_accepts_a_right_code_or_denies(
    host: Path, installed: Installation, pam: Pam, alice: Person
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, MANY)
    service = pam.service("nullok", "no_throttle", "look_ahead=100")
    results = starve_host(host, service, alice, codes)
    assert min(results) >= 0
    assert not {PAM_IGNORE, ALL_IGNORED} & set(results)
    assert results[-1] == PAM_SUCCESS
    used = codes[len(results) - 1]
    assert service.log_in(alice, used).result == PAM_AUTH_ERR


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("spawn.c", "\tif (order == MAP_FAILED)\n\t\treturn NULL;\n", ""),
        ("pam_softtoken.c", "int retval = PAM_AUTH_ERR;", "int retval = PAM_IGNORE;"),
    ],
)
def test_host__without_memory_shows_a_broken_bridge(
    host: Path,
    installed: Installation,
    make_service: Callable[[str], Service],
    alice: Person,
    phone: Phone,
    tmp_path: Path,
    file: str,
    right: str,
    wrong: str,
) -> None:
    """The control."""
    broken = installed.broken_bridge(tmp_path / "pam_softtoken.so", file=file, right=right, wrong=wrong)
    service = make_service(f"auth required {broken} backend={installed.backend} nullok no_throttle\n")
    results = starve_host(host, service, alice, [wrong_code(phone)])
    with pytest.raises(AssertionError):
        assert_denied(results)


def starve_backend(installed: Installation, user: Person, answers: list[str], step: int) -> list[list[str]]:
    """Fail every STEP-th allocation of the backend, and return its two verdicts and the log line for each."""
    who = [user.name, str(user.uid), str(user.gid), str(user.home)]
    command = ["/usr/bin/python3", "-I", "-S", str(STARVED), str(installed.root), *who, ",".join(answers), str(step)]
    command += ["nullok", "no_throttle"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found = [line.split(" ", 3) for line in done.stdout.splitlines()]
    assert len(found) > 500 // step
    return [[verdict, again, line] for _, verdict, again, line in found]


def test_backend__without_memory_denies_a_wrong_code(
    installed: Installation, alice: Person, phone: Phone, starved_step: int
) -> None:
    found = starve_backend(installed, alice, [wrong_code(phone)], starved_step)
    assert {verdict for verdict, _, _ in found} == {str(PAM_AUTH_ERR), "none"}
    assert {again for _, again, _ in found} == {str(PAM_AUTH_ERR)}
    assert sum("MemoryError" in line for _, _, line in found) > len(found) // 2


def test_backend__without_memory_never_accepts_a_code_twice(
    installed: Installation, alice: Person, starved_step: int
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, 3000 // starved_step)
    found = starve_backend(installed, alice, codes, starved_step)
    assert {verdict for verdict, _, _ in found} == {str(PAM_SUCCESS), str(PAM_AUTH_ERR), "none"}
    for verdict, again, _ in found:
        # Recorded before it is reported: an accepted code is used. Otherwise it may be used or not.
        assert (
            again == str(PAM_AUTH_ERR)
            if verdict == str(PAM_SUCCESS)
            else again in (str(PAM_SUCCESS), str(PAM_AUTH_ERR))
        )
    # A wrong code shows when there is nothing left to fail. It needs more allocations than a right one.
    assert sum("MemoryError" in line for _, _, line in found) > 1000 // starved_step
