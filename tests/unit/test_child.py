"""Child processes of the programs: with limits, and ended with everything that they have started."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from pam_softtoken.admin.common import child
from tests.support.process import Process, wait_until

STARTS_ANOTHER = ("sh", "-c", "sleep 1000 & echo $!; exec sleep 1000")


def _is_gone(pid: int) -> bool:
    try:
        return Process(Path(f"/proc/{pid}")).state == "Z"
    except FileNotFoundError:
        return True


def test_running__ends_the_children_of_the_program() -> None:
    with child.running(STARTS_ANOTHER, errors=subprocess.PIPE) as process:
        assert process.stdout is not None
        other = int(process.stdout.readline())
        assert not _is_gone(other)
    wait_until(lambda: _is_gone(process.pid) and _is_gone(other), "the end of both")


def test_worker__ends_the_children_of_its_work() -> None:
    def work(write: child.Write) -> None:
        other = subprocess.Popen(["sleep", "1000"])
        write(b"%d\n" % other.pid)
        signal.pause()

    worker = child.Worker(work)
    line = worker.line(limit_s=60, meanwhile=lambda: None)
    worker.end()
    assert line is not None
    wait_until(lambda: _is_gone(int(line)), "its end")


def test_worker__reports_until_its_work_fails() -> None:
    def work(write: child.Write) -> None:
        write(b"one\ntwo\nhalf")
        raise RecursionError

    worker = child.Worker(work)
    assert [worker.line(limit_s=60, meanwhile=lambda: None) for _ in range(3)] == [b"one", b"two", None]
    worker.end()


def test_run__reads_both_streams_however_much_comes_first_in_one() -> None:
    found = child.run("sh", "-c", "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; exit 3", limit_s=60)
    assert (found.returncode, len(found.stdout), len(found.stderr)) == (3, 300000, 300000)


def test_run__program_gets_no_input_and_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "xx_XX")
    assert child.run("sh", "-c", "cat; pwd; echo $LANG", limit_s=60) == (0, "/\nC.UTF-8\n", "")


def test_run__program_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimeoutError):
        child.run("sleep", "1000", limit_s=0.05)
    with pytest.raises(TimeoutError):  # it has closed its streams
        child.run("sh", "-c", "exec >&- 2>&-; sleep 1000", limit_s=0.2)
    monkeypatch.setattr(child, "MAX_BYTES", 100000)
    with pytest.raises(ValueError, match="too much"):
        child.run("yes", limit_s=60)


def test_run__missing_program_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        child.run("/no/such/program", limit_s=60)
