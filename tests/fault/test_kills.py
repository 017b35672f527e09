"""Kill the backend or the host of a login with SIGKILL, at every system call.

A code works at most once in all, and the next code works. strace kills a process as it enters a call, and
the call is not made. No other process can see the work between two calls, so a kill after a call equals a kill before
the next call. The ordinary run kills at a sample of the calls. The sample changes from run to run, and always has the
first call, the last call and those around the record. The full run kills at every call.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.fault import (
    HOST_IDS,
    HOSTS,
    KILL,
    KINDS,
    SOME,
    Call,
    Stage,
    Troupe,
    assert_used_once_at_most,
    before_the_first_frame,
    drawn,
    from_the_first_frame,
    is_unsteady,
)
from tests.support.system_log import SystemLog


@pytest.mark.lockout("a login was killed at any system call of its backend")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.claim(
    "A login that is killed at any system call, or of which any call fails, lets no code in twice, and "
    "the next login works."
)
def test_backend__killed_at_any_call_from_the_first_frame_on(make_troupe: Callable[[str], Troupe], kind: str) -> None:
    """A code can still be used until the call that records it, and not after that call."""
    troupe = make_troupe(kind)
    calls = from_the_first_frame(troupe.lead.backend_calls(*troupe.lead.act.answers))
    told = [call.text.startswith(r'write(0, "\1R\0') for call in calls].index(True)
    recorded = max(place for place, call in enumerate(calls) if call.name == "pwrite64")
    assert recorded < told

    def scene(stage: Stage, call: Call, how: str) -> None:
        place = calls.index(call)
        result = stage.disturb_backend(call, how, *stage.act.answers)
        left = assert_used_once_at_most(stage, result)
        if not is_unsteady(call):
            assert result == (PAM_SUCCESS if place > told else PAM_AUTH_ERR), f"the killed login gave {result}"
            assert left == (place <= recorded), f"the code {'still works' if left else 'is lost'}"

    troupe.play(scene, [(call, KILL) for call in drawn(calls, SOME)])


def test_backend__killed_at_any_call_while_it_starts(make_troupe: Callable[[str], Troupe]) -> None:
    """The backend has received no code yet, so the code still works at the next login."""
    troupe = make_troupe("totp")
    calls = troupe.lead.backend_calls(*troupe.lead.act.answers)

    def scene(stage: Stage, call: Call, how: str) -> None:
        results = [stage.disturb_backend(call, how, *stage.act.answers), stage.log_in(*stage.act.answers)]
        expected = [PAM_AUTH_ERR, PAM_SUCCESS]
        assert results == expected or (is_unsteady(call) and results == expected[::-1]), f"gave {results}"

    # The first call is the execve that makes it a separate program.
    troupe.play(scene, [(call, KILL) for call in drawn(calls[1 : before_the_first_frame(calls)], SOME)])


def test_backend__killed_at_any_call_before_it_is_a_program(
    make_troupe: Callable[[str], Troupe], system_log: SystemLog
) -> None:
    """The bridge makes two child processes. This test kills them between clone and execve.

    Until execve they run in the memory of the host. The few calls that strace cannot distinguish from the calls of the
    host are left out, see `child_calls`.
    """
    troupe = make_troupe("totp")
    calls = troupe.lead.child_calls()
    assert {"setresuid", "setsid", "close_range", "prlimit64"} <= {call.name for call in calls}

    def scene(stage: Stage, call: Call, how: str) -> None:
        result = stage.disturb_children(call, how)
        left = assert_used_once_at_most(stage, result)
        assert result == PAM_AUTH_ERR, f"the killed login gave {result}"
        assert left, "the code is lost"
        stage.wait_for_the_end()

    troupe.play(scene, [(call, KILL) for call in drawn(calls, SOME)])


@pytest.mark.lockout("a login was killed at any system call of its host")
@pytest.mark.parametrize("options", HOSTS, ids=HOST_IDS)
@pytest.mark.claim(
    "A login that is killed at any system call, or of which any call fails, lets no code in twice, and "
    "the next login works."
)
def test_host__killed_at_any_call_ends_the_backend_too(
    make_troupe: Callable[[str], Troupe], system_log: SystemLog, options: tuple[str, ...]
) -> None:
    """The backend ends within seconds and releases its lock."""
    troupe = make_troupe("totp")
    calls = troupe.lead.host_calls(*options)
    assert {"socketpair", "clone", "poll", "recvfrom"} <= {call.name for call in calls}

    def scene(stage: Stage, call: Call, how: str) -> None:
        stage.kill_host(call, *options)
        stage.wait_for_the_end()
        assert_used_once_at_most(stage, None)

    troupe.play(scene, [(call, KILL) for call in drawn(calls, SOME)])
