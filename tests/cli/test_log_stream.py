"""Run `softtoken-admin log` on long logs: it starts at once, needs no more memory, and can be ended."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin import Admin
from tests.support.enroller import ENVIRONMENT, TIMEOUT_S
from tests.support.installation import Installation
from tests.support.process import processes

LINE = "2005-03-18T01:58:29Z host sshd[1]: pam_softtoken(sshd:auth): user=u{} result=denied reason=mismatch\n"
OTHER = "2005-03-18T01:58:29Z host sshd[1]: Connection closed by 192.0.2.7 port 4242 [preauth] softtoken {}\n"
EVER = ("--since", "2000-01-01")
MANY = 200
MOST_GROWTH_KB = 4 * 1024


@pytest.fixture
def admin(installed: Installation) -> Admin:
    """The installed `softtoken-admin`."""
    return Admin(installed)


def peak_memory_kb(admin: Admin, *options: str | Path) -> int:
    """Return the peak memory of the program, as counted by the kernel, in KiB."""
    words = [str(word) for word in (*admin.program, "log", *EVER, *options)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(ENVIRONMENT))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss


@pytest.mark.parametrize("options", [(), ("--json",), ("--user", "nobody")], ids=["table", "json", "one user"])
def test_log__fifty_times_as_long_needs_no_more_memory(admin: Admin, outside: Path, options: tuple[str, ...]) -> None:
    path = outside / "auth.log"
    peaks = []
    for lines in (1_000, 50_000):
        with path.open("w") as text:
            for number in range(lines):
                text.write(LINE.format(number) + OTHER.format(number))
        peaks.append(peak_memory_kb(admin, "--file", path, *options))
    assert peaks[1] - peaks[0] < MOST_GROWTH_KB, peaks


@pytest.mark.parametrize("field", ["uid", "user", "rhost", "token", "detail"])
def test_log__leaves_out_a_line_with_a_longer_value_than_is_ever_written(
    admin: Admin, outside: Path, field: str
) -> None:
    """Any user can write such a line. It must neither end the listing nor widen all its lines."""
    path = outside / "auth.log"
    forged = LINE.format(1).replace(
        "user=u1", f"user=u1 {field}={'9' * 6000}" if field != "user" else "user=" + "9" * 6000
    )
    path.write_text(forged + LINE.format(2))
    for options in ((), ("--json",)):
        done = admin.run("log", *EVER, "--file", path, *options)
        assert done.status == 0, done.stderr
        assert "999999" not in done.stdout
        assert "u2" in done.stdout
        assert "Traceback" not in done.stderr


def test_log__says_that_a_compressed_file_is_damaged_wherever_it_is(admin: Admin, outside: Path) -> None:
    path = outside / "auth.log.2.gz"
    whole = gzip.compress("".join(LINE.format(number) for number in range(2000)).encode())
    for place in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        done = admin.run("log", *EVER, "--file", path)
        assert "Traceback" not in done.stderr, (place, done.stderr)
        assert done.status == 0 or f'cannot read "{path}"' in done.stderr


def test_log__with_an_endless_line_needs_no_more_memory(admin: Admin, outside: Path) -> None:
    path = outside / "auth.log"
    peaks = []
    for size in (1, 64 * 1024 * 1024):
        with path.open("w") as text:
            text.write(LINE.format(0))
            text.truncate(text.tell() + size)
        peaks.append(peak_memory_kb(admin, "--file", path))
    assert peaks[1] - peaks[0] < MOST_GROWTH_KB, peaks


@pytest.fixture
def running(admin: Admin, outside: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """The program on a log that has not ended yet."""
    options: tuple[str, ...] = getattr(request, "param", ())
    path = outside / "auth.log"
    os.mkfifo(path)
    # Root opens no pipe by its name, but reads one that its caller has opened.
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with path.open("w") as log:
        os.set_blocking(reading, True)
        words = [str(word) for word in (*admin.program, "log", *EVER, *options, "--file", f"/dev/fd/{reading}")]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(ENVIRONMENT), pass_fds=(reading,)
        )  # fmt: skip
        os.close(reading)
        with process:
            log.writelines(LINE.format(number) for number in range(MANY))
            log.flush()
            yield process
            process.kill()


@pytest.mark.parametrize("running", [(), ("--json",)], ids=["table", "json"], indirect=True)
def test_log__shows_the_first_lines_before_the_log_has_ended(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    assert select.select([running.stdout], [], [], TIMEOUT_S)[0], "it shows nothing yet"
    assert "u0" in running.stdout.readline() + running.stdout.readline()
    assert running.poll() is None


def test_log__json_is_one_object_however_long(admin: Admin, outside: Path) -> None:
    (outside / "auth.log").write_text("".join(LINE.format(number) for number in range(MANY)))
    for user, count in ((), MANY), (("--user", "u7"), 1), (("--user", "nobody"), 0):
        done = admin.run("log", *EVER, "--json", "--file", outside / "auth.log", *user)
        assert len(json.loads(done.stdout)["entries"]) == count


def test_log__columns_stay_straight_and_grow_where_they_must(admin: Admin, outside: Path) -> None:
    names = [*MANY * ["a"], "much-longer", *MANY * ["b"]]
    (outside / "auth.log").write_text("".join(LINE.replace("u{}", name) for name in names))
    lines = admin.run("log", *EVER, "--file", outside / "auth.log").stdout.splitlines()
    assert lines[0].split()[:3] == ["time", "service", "user"]
    assert len(lines) == len(names) + 1
    assert [line.split()[3] for line in lines[1:]] == names
    places = [line.index("denied") for line in lines[1:]]
    assert len(set(places[: MANY // 2])) == 1
    assert len(set(places[-MANY // 2 :])) == 1


@pytest.mark.parametrize("running", [(), ("--json",)], ids=["table", "json"], indirect=True)
def test_log__ends_quietly_when_the_pager_is_closed(running: subprocess.Popen[str], outside: Path) -> None:
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    with pytest.raises(BrokenPipeError), (outside / "auth.log").open("w") as log:  # noqa: PT012 - until it notices
        while running.poll() is None:
            log.write(LINE.format("next"))
            log.flush()
        log.write(LINE.format("last"))
    assert running.wait(60) == 0
    assert running.stderr.read() == ""


# -- a journal that takes long to read


@pytest.fixture
def slow_journal(outside: Path) -> Path:
    """A directory with a journalctl that never ends."""
    directory = outside / "bin"
    directory.mkdir()
    record = {"MESSAGE": LINE.format(0).partition("]: ")[2].strip(), "_UID": "0", "__REALTIME_TIMESTAMP": "1"}
    (directory / "entry").write_text(json.dumps(record))
    script = directory / "journalctl"
    script.write_text(
        "#!/usr/bin/python3 -I\nimport signal, sys, time\n"
        f"line = open({str(directory / 'entry')!r}).read()\n"
        f"for number in range({MANY}): print(line, flush=True)\n"
        "signal.pause()\n"
    )
    script.chmod(0o755)
    return directory


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_log__interrupted_one_ends_journalctl_too(admin: Admin, slow_journal: Path, number: signal.Signals) -> None:
    """The signal goes only to the program, unlike a signal from a terminal."""
    # Root's programs search for others only where root installs them.
    instead = 'mount --bind "$0" "$(command -v journalctl)" && exec "$@"'
    private = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", instead, slow_journal / "journalctl"]
    words = [str(word) for word in (*private, *admin.program, "log", "--since", "1970-01-01", "--file", "a.journal")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(ENVIRONMENT))
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    children = [each.pid for each in processes() if each.parent == process.pid]
    try:
        assert len(children) == 1
        process.send_signal(number)
        assert process.wait(20) == 1
        assert "interrupted" in process.stderr.read()
        assert not Path(f"/proc/{children[0]}").exists()
    finally:
        for pid in (*children, process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
