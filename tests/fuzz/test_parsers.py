"""Fuzz the parsers: every kept input again, then some thousand new ones. `python -m tests.fuzz` goes on from there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz.harness import CORPUS
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS
from tests.support import sampling
from tests.support.installation import TREE

RUNS = sampling.amount(5_000, full=200_000)
PATIENCE_S = 1.0
"""Processor time for one input; each takes a few microseconds."""
INPUTS = [(target, path.name) for target in TARGETS for path in sorted((CORPUS / target).iterdir())]


@pytest.mark.parametrize(("target", "name"), INPUTS)
def test_parser__reads_or_refuses_every_kept_input(target: str, name: str) -> None:
    data = (CORPUS / target / name).read_bytes()
    started = time.process_time()
    TARGETS[target](data)
    assert time.process_time() - started < PATIENCE_S


@pytest.mark.parametrize("target", TARGETS)
def test_parser__reads_or_refuses_any_input(target: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target, f"-runs={RUNS}", f"-seed={sampling.SEED}", str(tmp_path)]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"Done {RUNS} runs" in done.stderr


def test_fuzzer__notices_a_broken_parser(tmp_path: Path) -> None:
    """The control: a parser that raises an undocumented exception is found, and the input is kept."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pam_softtoken.login.answer as answer\nanswer.read = lambda text: [][len(text)]\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{TREE}"}
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "typed_answer",
        "-runs=20000",
        "-seed=1",
        str(tmp_path / "found"),
    ]
    done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode != 0
    assert "IndexError" in done.stdout + done.stderr
    assert list((tmp_path / "found").glob("crash-*"))


def test_corpus__has_every_seed() -> None:
    for target, inputs in seeds().items():
        for name, content in inputs.items():
            assert (CORPUS / target / name).read_bytes() == content, "python -m tests.fuzz.seeds writes them"
