"""Logins in surroundings that a command has prepared: limits, capabilities, a changed mount namespace."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.leak import keep_answer

LIMIT_S = 20
"""A login takes a fraction of this on any machine. One that waits for a service that hangs takes longer."""
LITTER = b"litter " * 20
_ONLY_LOG = """
mount -t tmpfs -o mode=755 tmpfs /mnt
touch /mnt/null
mount --bind /dev/null /mnt/null
ln -s {log} /mnt/log
mount --rbind /mnt /dev
"""
_CHROOT = """
root=/mnt
mount -t tmpfs -o mode=755 tmpfs "$root"
for name in bin lib lib64 sbin; do cp -P /$name "$root"; done
for place in /usr /etc {places}; do mkdir -p "$root$place"; mount --rbind "$place" "$root$place"; done
set -- chroot "$root" "$@"
"""


def chroot_with(*places: Path) -> str:
    """Return the setup of a chroot that has only programs, settings and some additional paths."""
    return _CHROOT.replace("{places}", " ".join(map(str, places)))


def words_inside(setup: str, *namespaces: str) -> list[str]:
    """Return the words before a command line that run it in its own mount namespace.

    Args:
        setup: shell commands that run there first.
        namespaces: additional options of unshare(1).
    """
    command = ["unshare", "--mount", "--propagation=private", *namespaces]
    return [*command, "sh", "-euc", f'{setup}\nexec "$@"', "sh"]


def log_in_inside(
    service: Service,
    user: Person,
    *answers: str,
    setup: str,
    namespaces: tuple[str, ...] = (),
    before: tuple[str, ...] = (),
    limit_s: float = 300,
    stderr: int = subprocess.PIPE,
) -> Outcome:
    """Log in once in a separate mount namespace.

    Args:
        service: the service.
        user: the user that logs in.
        answers: one for each prompt.
        setup, namespaces: as for `words_inside`.
        before: words between the setup and the client's command line.
        limit_s: the time limit for everything, in seconds.
        stderr: the client's.
    """
    for answer in answers:
        keep_answer(answer)
    done = subprocess.run(
        [*words_inside(setup, *namespaces), *before, *service.command(user)],
        input="".join(f"={answer}\n" for answer in answers),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=True,
        timeout=limit_s,
    )
    return Outcome(done.stdout)


def log_in_around(around: Sequence[str], service: Service, user: Person, *answers: str) -> list[Outcome]:
    """Run one attempt for each answer, all in one process.

    Args:
        around: words before the client's command line.
        service: the service.
        user: the user that logs in.
        answers: one for each attempt.
    """
    for answer in answers:
        keep_answer(answer)
    script = "".join(f"={answer}\n" for answer in answers)
    command = [*around, *service.command(user, f"--repeat={len(answers)}")]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True, timeout=300)
    return [Outcome(line) for line in done.stdout.splitlines()]


def assert_in_once(service: Service, user: Person, code: str, *, around: Sequence[str] = ()) -> None:
    """Log in with a code, and check that it is refused the second time."""
    results = [outcome.result for outcome in log_in_around(around, service, user, code, code)]
    assert results == [PAM_SUCCESS, PAM_AUTH_ERR]


def in_namespaces(*kinds: str, setup: str, around: Sequence[str] = ()) -> list[str]:
    """Return the words before a command that run it in separate namespaces, with more words after the setup."""
    return [*words_inside(setup, *kinds), *around]


def as_user(person: Person) -> list[str]:
    """Return the words before a command that run it as a user, such as a screen locker."""
    return ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", "--clear-groups"]


def log_at(path: Path) -> str:
    """Return the setup that replaces /dev/log with something of ours."""
    return _ONLY_LOG.replace("{log}", str(path))


def _flood(path: Path) -> None:
    """Send what one socket can. Raises `BlockingIOError` if that is nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        flood.connect(str(path))
        flood.send(LITTER)
        with contextlib.suppress(BlockingIOError):
            while True:
                flood.send(LITTER)


@contextlib.contextmanager
def full_queue(path: Path) -> Iterator[socket.socket]:
    """A log daemon that has stopped reading datagrams. Its queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(path))
        path.chmod(0o666)
        with contextlib.suppress(BlockingIOError):
            while True:  # a long queue takes more than what one sender may have under way
                _flood(path)
        yield daemon
