"""Logins of a PAM client in surroundings that a command has made: limits, capabilities, mounts of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.leak import keep_answer


def log_in_around(around: Sequence[str], service: Service, user: Person, *answers: str) -> list[Outcome]:
    """Make one attempt for each answer, all in one process.

    Args:
        around: words before the client's command line.
        service: where.
        user: as whom.
        answers: one for each attempt.
    """
    for answer in answers:
        keep_answer(answer)
    script = "".join(f"={answer}\n" for answer in answers)
    command = [*around, *service.command(user, f"--repeat={len(answers)}")]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True, timeout=300)
    return [Outcome(line) for line in done.stdout.splitlines()]


def assert_in_once(service: Service, user: Person, code: str, *, around: Sequence[str] = ()) -> None:
    """Log in with a code, and see that it is refused the second time."""
    results = [outcome.result for outcome in log_in_around(around, service, user, code, code)]
    assert results == [PAM_SUCCESS, PAM_AUTH_ERR]


def in_namespaces(*kinds: str, setup: str, around: Sequence[str] = ()) -> list[str]:
    """Return the words before a command that run it in a mount namespace of its own.

    Args:
        kinds: options of unshare(1) for more namespaces.
        setup: what a shell does there first.
        around: more words before the command.
    """
    script = f'set -e; {setup}; exec "$@"'
    return ["unshare", "--mount", "--propagation=private", *kinds, "sh", "-c", script, "sh", *around]


def as_user(person: Person) -> list[str]:
    """Return the words before a command that run it as a user, such as a screen locker."""
    return ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", "--clear-groups"]
