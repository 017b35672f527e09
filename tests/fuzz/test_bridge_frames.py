"""Fuzz the bridge's half of the protocol, under ASan and UBSan, with a second opinion on the verdict."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.harness import CORPUS, SOURCE, compile_harness, without_randomised_addresses
from tests.support import sampling
from tests.support.installation import TREE

RUNS = sampling.amount(5_000, full=200_000)
BRIDGE = Path("pam_softtoken", "bridge")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bridge of this tree between a fake libpam and a fake backend."""
    return compile_harness(tmp_path_factory.mktemp("harness") / "harness")


def _run(harness: Path, found: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ["-max_len=9000", "-timeout=60", "-rss_limit_mb=1024", f"-artifact_prefix={found}/", *arguments]
    command = [*without_randomised_addresses(), str(harness), *options]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=600)


def test_bridge__judges_every_kept_conversation_correctly(harness: Path, tmp_path: Path) -> None:
    done = _run(harness, tmp_path, *map(str, sorted((CORPUS / "bridge_frames").iterdir())))
    assert done.returncode == 0, done.stderr[-4000:]


def test_bridge__judges_any_conversation_correctly(harness: Path, tmp_path: Path) -> None:
    done = _run(
        harness, tmp_path, f"-runs={RUNS}", f"-seed={sampling.SEED}", str(tmp_path), str(CORPUS / "bridge_frames")
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {RUNS} runs" in done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(size_t)length > sizeof(frame->bytes)", "(size_t)length > sizeof(frame->bytes) + 1"),
        ("if (length < 3 ||", "if (length < 2 ||"),
        ("strnlen(answer, MAX_ANSWER_BYTES)", "strlen(answer)"),
        ("\t\tfree(answer);\n", ""),
        ("account->pw_name != NULL && account->pw_name[0] != '\\0';", "account->pw_name != NULL;"),
        ('append_field(frame, "%s", account->pw_name);', 'append_field(frame, "%s", user);'),
        ("(unsigned char)*text < ' ' || *text == 0x7f", "*text == 0x7f"),
    ],
)
def test_fuzzer__notices_a_broken_bridge(tmp_path: Path, right: str, wrong: str) -> None:
    """The control: the kept conversations alone reveal each of these faults."""
    copy = tmp_path / BRIDGE
    shutil.copytree(TREE / BRIDGE, copy)
    (file,) = (each for each in copy.glob("*.c") if each.read_text().count(right) == 1)
    file.write_text(file.read_text().replace(right, wrong))
    source = tmp_path / SOURCE.relative_to(TREE)
    source.parent.mkdir(parents=True)
    shutil.copy(SOURCE, source)
    harness = compile_harness(tmp_path / "harness", source=source)
    done = _run(harness, tmp_path, *map(str, sorted((CORPUS / "bridge_frames").iterdir())))
    assert done.returncode != 0
    assert any(word in done.stderr for word in ("ERROR: AddressSanitizer", "LeakSanitizer", "runtime error", "not so:"))
