"""Measure commands at sudo for `scripts/bench --signatures`: how much time do signatures add?

The real sudo, with its own rules, sudo.conf and PAM service. They exist only in the bench's own copy of /etc.
"""

from __future__ import annotations

import contextlib
import os
import pty
import pwd
import re
import secrets
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench_attempts import Sample, in_turn
from bench_report import Goal, Table
from bench_setup import TREE, BenchError, Workshop, run
from bench_users import ETC, add_user

sys.path.insert(0, str(TREE))

from pam_softtoken.account import places, signers
from pam_softtoken.otp import ocra, signing
from pam_softtoken.otp.ocra import OCRAToken, Suite
from pam_softtoken.otp.token import Secret

LEAST_RUNS = 25
PROMPT_GOAL_MS, OUTPUT_GOAL_MS, UNMARKED_GOAL_MS = 20, 6, 3
SIGNER, OTHER_USER = "softtoken-bench-s", "softtoken-bench-u"
_SUDO = "/usr/bin/sudo"
_COMMAND = ("printf", "it%sran", "_")
_OUTPUT, _PROMPT = b"it_ran", b"Code: "
"""What the command writes is not in its arguments, which the prompt shows."""
_REQUEST = re.compile(rb"^(stq1\.\S+)\r?$", re.MULTILINE)
_TIMEOUT_S = 60.0
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "LANG": "C.UTF-8"}
# The settings are those of Debian.
_RULES = """\
Defaults env_reset, mail_badpass, use_pty, lecture=never
Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
root ALL=(ALL:ALL) ALL
{users} ALL=(ALL:ALL) NOPASSWD: ALL
"""
_SERVICE = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n"


@dataclass(slots=True)
class Times:
    """What was measured of commands at sudo, in ms.

    Attributes:
        bare: from the start to the output of the command, without the plugin.
        unmarked: the same with the plugin, for a user who never had a token that signs.
        prompt: from the start to the prompt, for a user with such a token.
        output: from the answer to the output of the command.
    """

    bare: Sample = field(default_factory=Sample)
    unmarked: Sample = field(default_factory=Sample)
    prompt: Sample = field(default_factory=Sample)
    output: Sample = field(default_factory=Sample)


class _Terminal:
    """One sudo on a terminal of its own, started as a user."""

    def __init__(self, user: pwd.struct_passwd) -> None:
        self._shown = b""
        self.started_s = time.monotonic()
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            _become(user)

    def read_until(self, wanted: bytes) -> float:
        """Read until something is shown, and return the time when it was.

        Raises:
            BenchError: sudo ended without it, or it took too long.
        """
        until_s = time.monotonic() + _TIMEOUT_S
        while wanted not in self._shown:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, until_s - time.monotonic()))
            data = b""
            with contextlib.suppress(OSError):  # the terminal's last process has ended
                data = os.read(self._terminal, 65536) if ready else b""
            if not data:
                self.end()
                raise BenchError(f"sudo did not show {wanted.decode()!r}: {self._shown.decode(errors='replace')}")
            self._shown += data
        return time.monotonic()

    def request(self) -> str:
        """Return the request that is shown."""
        return _REQUEST.findall(self._shown)[-1].decode()

    def type(self, line: str) -> float:
        """Type a line. Return the time before it."""
        at_s = time.monotonic()
        os.write(self._terminal, f"{line}\n".encode())
        return at_s

    def end(self) -> None:
        """Wait for sudo, after its last output or to give up."""
        with contextlib.suppress(OSError):
            while select.select([self._terminal], [], [], 0 if not self._shown else 1)[0]:
                if not os.read(self._terminal, 65536):
                    break
        os.close(self._terminal)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGHUP)
        os.waitpid(self._pid, 0)


def _become(user: pwd.struct_passwd) -> None:
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        os.chdir(user.pw_dir)
        os.execve(_SUDO, [_SUDO, *_COMMAND], _ENVIRONMENT | {"HOME": user.pw_dir, "USER": user.pw_name})
    finally:
        os._exit(127)


def measure_signatures(shop: Workshop, runs: int, progress: Callable[[int], None]) -> Times:
    """Run a command through sudo without our plugin, with it, and signed, in turn.

    Raises:
        BenchError: the command did not run, or was not asked for as it should be.
    """
    signer, other = add_user(shop, SIGNER), add_user(shop, OTHER_USER)
    (ETC / "pam.d" / "sudo").write_text(_SERVICE)
    rules = ETC / "sudoers"
    rules.unlink(missing_ok=True)
    rules.touch(mode=0o440)
    rules.write_text(_RULES.format(users=f"{SIGNER},{OTHER_USER}"))
    key = _enrol(signer)
    tree = shop.path / "tree"
    line = f"Plugin softtoken_approval {tree}/build/softtoken_approval.so approver={tree}/scripts/softtoken-approver\n"
    times = Times()

    def bare(into: Times) -> None:
        (ETC / "sudo.conf").write_text("")
        into.bare.values.append(_run(other))

    def unmarked(into: Times) -> None:
        (ETC / "sudo.conf").write_text(line)
        into.unmarked.values.append(_run(other))

    def signed(into: Times) -> None:
        (ETC / "sudo.conf").write_text(line)
        prompt_ms, output_ms = _run_signed(signer, key)
        into.prompt.values.append(prompt_ms)
        into.output.values.append(output_ms)

    ways = (bare, unmarked, signed)
    for way in ways:
        way(Times())  # the first one loads what the others find in memory
    for number in range(runs):
        progress(number)
        for way in in_turn(ways, number):
            way(times)
    return times


def _enrol(user: pwd.struct_passwd) -> bytes:
    """Write a token that signs, as softtoken-enroll does, without the questions. Return its key."""
    key = secrets.token_bytes(32)
    token = OCRAToken("laptop", Secret(key), suite=Suite.parse(ocra.SIGNING_SUITE), created=int(time.time()))
    for path, mode in ((places.DATA, 0o711), (places.SIGNERS, 0o711), (signers.uid_mark(user.pw_uid), 0o700)):
        os.mkdir(path)
        os.chmod(path, mode)
    Path(signers.name_mark(user.pw_name)).touch()
    tokens = Path(signers.uid_mark(user.pw_uid)) / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_bytes(signers.serialise((token,), owner=(user.pw_name, user.pw_uid)))
    return key


def _run(user: pwd.struct_passwd) -> float:
    """Run the command without a question. Return the time to its output in ms."""
    terminal = _Terminal(user)
    shown_s = terminal.read_until(_OUTPUT)
    terminal.end()
    return (shown_s - terminal.started_s) * 1e3


def _run_signed(user: pwd.struct_passwd, key: bytes) -> tuple[float, float]:
    """Run the command and sign it. Return the times to the prompt, and from the answer to the output, in ms."""
    terminal = _Terminal(user)
    prompted_s = terminal.read_until(_PROMPT)
    request = terminal.request()
    typed_s = terminal.type(signing.sign(key, signing.read_request(key, request)))
    shown_s = terminal.read_until(_OUTPUT)
    terminal.end()
    return (prompted_s - terminal.started_s) * 1e3, (shown_s - typed_s) * 1e3


def signature_table(times: Times) -> Table:
    """Return the table: medians, and their distance from bare sudo's."""
    bare_ms = times.bare.median()
    rows: list[tuple[str, ...]] = []
    for title, sample, is_compared in (
        ("without the plugin: command's output", times.bare, False),
        ("with it, user without a token: output", times.unmarked, True),
        ("with it, user with a token: prompt", times.prompt, True),
        ("  from the answer to the output", times.output, False),
    ):
        more = f"{sample.median() - bare_ms:+.2f}" if is_compared else ""
        rows.append((title, f"{sample.median():.2f}", f"{sample.p90():.2f}", more))
    return Table(("sudo (ms)", "median", "nine in ten", "more"), rows)


def signature_goals(times: Times) -> list[Goal]:
    """Compare the figures with the goals."""
    bare_ms = times.bare.median()
    prompt_ms, output_ms = times.prompt.median() - bare_ms, times.output.median()
    unmarked_ms = times.unmarked.median() - bare_ms
    return [
        Goal(
            f"prompt within {PROMPT_GOAL_MS} ms of bare sudo's output",
            f"{prompt_ms:+.2f} ms",
            prompt_ms <= PROMPT_GOAL_MS,
        ),
        Goal(f"answer to output within {OUTPUT_GOAL_MS} ms", f"{output_ms:.2f} ms", output_ms <= OUTPUT_GOAL_MS),
        Goal(
            f"user without a token at most +{UNMARKED_GOAL_MS} ms",
            f"{unmarked_ms:+.2f} ms",
            unmarked_ms <= UNMARKED_GOAL_MS,
        ),
    ]


def signature_note(runs: int) -> str:
    """Return how the figures were measured."""
    version = run(_SUDO, "--version").splitlines()[0]
    return (
        f"Each median is of {runs} runs of one command; the ways took turns. {version}, with Debian's settings, a "
        "NOPASSWD rule, and pam_permit as its PAM service. The times start before sudo does, on a new terminal."
    )
