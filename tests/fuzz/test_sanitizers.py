"""Run the bridge built with ASan and UBSan, in a client built with them: the scenes of bad backends, and logins.

The bridge's children run in the host's memory until execve. ASan accepts this: their stacks are a mapping of our own,
which it treats as addressable, and instrumented functions in them restore its shadow on return.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuzz.harness import without_randomised_addresses
from tests.pam.test_bad_backend import *  # noqa: F403 - its tests, which find the `installed` of this module
from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_CONV_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, ROOT, Backends, Pam, oathtool

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")


@pytest.fixture(scope="module")
def installed(world: Path) -> Installation:
    """A copy of the product whose bridge checks itself."""
    around = " ".join(without_randomised_addresses())
    made = Installation.make(world / "sanitized", flags=FLAGS, around_client=around)
    used = subprocess.run(["nm", "--dynamic", made.bridge], check=True, capture_output=True, text=True).stdout
    assert "__asan_report_store1" in used
    assert "__ubsan_handle" in used
    return made


@pytest.fixture(autouse=True)
def no_report(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Check that ASan reported nothing in any process. A UBSan report ends the client with a status."""
    directory = world / "reports"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o1777)
    options = f"log_path={directory}/report:detect_leaks=1:detect_stack_use_after_return=1"
    monkeypatch.setenv("ASAN_OPTIONS", options)

    def take() -> list[str]:
        reports = []
        for path in directory.iterdir():
            reports.append(path.read_text(errors="replace"))
            path.unlink()
        return reports

    yield take
    assert take() == []


@pytest.mark.parametrize("around", [(), ("unshare", "--pid", "--fork", "--mount-proc")], ids=["plain", "process-1"])
def test_login__right_and_wrong_leaves_no_report(
    installed: Installation, pam: Pam, alice: Person, around: tuple[str, ...]
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, 3)
    service = pam.service("no_throttle")
    script = "".join(f"={answer}\n" for answer in (codes[0], codes[0], codes[1], "nonsense", codes[2]))
    command = [*around, *service.command(alice, "--repeat=6")]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True, timeout=300)
    results = [Outcome(line).result for line in done.stdout.splitlines()]
    assert results == [PAM_SUCCESS, PAM_AUTH_ERR, PAM_SUCCESS, PAM_AUTH_ERR, PAM_SUCCESS, PAM_CONV_ERR]


@pytest.mark.parametrize(
    ("file", "right", "wrong", "word"),
    [
        ("pam_softtoken.c", "out:\n\tfree(asked);\n", "out:\n", "LeakSanitizer"),
        ("frames.c", "\ttext[length] = '\\0';", "\ttext[length + MAX_FRAME_BYTES] = '\\0';", "stack-buffer-overflow"),
        (
            "pam_softtoken.c",
            "int style = frame->bytes[2]",
            "int style = frame->bytes[frame->length + MAX_FRAME_BYTES]",
            "runtime error",
        ),
    ],
)
def test_sanitizer__notices_a_broken_bridge(
    installed: Installation,
    backends: Backends,
    make_service: Callable[[str], Service],
    no_report: Callable[[], list[str]],
    file: str,
    right: str,
    wrong: str,
    word: str,
) -> None:
    """The control."""
    backend = backends.make(script="send(b'C', 1, b'? '); receive(); send(b'R', 0)")
    target = backend.with_name("pam_softtoken.so")
    broken = installed.broken_bridge(target, right=right, wrong=wrong, file=file, flags=FLAGS)
    service = make_service(f"auth required {broken} backend={backend}\n")
    done = subprocess.run(service.command(ROOT), input=b"=x\n", capture_output=True, check=False, timeout=300)
    assert done.returncode != 0
    assert word in "".join(no_report()) + done.stderr.decode()
