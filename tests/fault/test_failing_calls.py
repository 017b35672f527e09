"""Fail every system call of an attempt once, with one error after the other.

There is never a success without the right code and a durable record, and never `PAM_IGNORE`. The next login works as if
nothing had happened. All of it runs under `nullok`, and no mark shows that the user has enrolled. So a `PAM_IGNORE` is
as near as possible.

Each call fails with the errors in its manual page, and with `ESTALE` if a network file system may return it. That is so
for a TOTP code and for the first login, from the bridge's first frame to the end of the backend. The host's calls get
two errors each. A recovery code and a pair of HOTP codes get one. During the interpreter's start, before our code runs,
calls that open, read and map files get one. The ordinary run has a sample of these pairs, which changes from run to run
and always has the calls that store a record; the full run has all. With EVERY_ERROR=1 in the environment every call
meets every error. That takes a quarter of an hour and more.

Calls that cannot fail are left out: a failing `geteuid` would test strace. So is the second `clone`, which strace
cannot distinguish from the first.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.client import PAM_SUCCESS
from tests.support.fault import (
    FILE_GONE,
    HOST_IDS,
    HOSTS,
    KINDS,
    NEVER_ENROLLED,
    PAM_PERM_DENIED,
    REFUSALS,
    SOME,
    Call,
    Stage,
    Troupe,
    assert_used_once_at_most,
    before_the_first_frame,
    drawn_failures,
    from_the_first_frame,
)
from tests.support.system_log import SystemLog

ERRORS = ("ENOSPC", "EROFS", "EDQUOT", "EIO", "EMFILE", "ENOLCK", "ESTALE", "ENOMEM", "EACCES", "EINTR", "EAGAIN")
_STORING = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "ESTALE")
ERRORS_OF = {
    **dict.fromkeys(("pwrite64", "fdatasync", "fsync", "ftruncate"), _STORING),
    **dict.fromkeys(("setgroups", "setresgid", "setresuid", "getgroups"), ("EPERM", "ENOMEM", "EAGAIN")),
    **dict.fromkeys(("read", "pread64"), ("EIO", "ESTALE", "ENOMEM")),
    **dict.fromkeys(("brk", "mmap", "mprotect", "munmap"), ("ENOMEM",)),
    **dict.fromkeys(("dup", "dup2", "fcntl", "pipe", "pipe2"), ("EMFILE",)),
    **dict.fromkeys(("socket", "socketpair"), ("EMFILE", "ENOMEM")),
    **dict.fromkeys(("sendto", "recvfrom"), ("ENOMEM", "EINTR", "EAGAIN")),
    **dict.fromkeys(("connect", "sendmsg"), ("ECONNREFUSED", "EAGAIN", "EINTR", "EPROTOTYPE")),
    "openat": ("EMFILE", "ENOMEM", "EIO", "ESTALE", "EACCES", "ENOSPC", "EROFS", "EDQUOT"),
    "mkdir": (*_STORING, "ENOMEM"),
    "newfstatat": ("EIO", "ESTALE", "ENOMEM", "EACCES"),
    "flock": ("ENOLCK", "EIO", "ESTALE"),
    "close": ("EIO", "ENOSPC", "EDQUOT"),
    "write": ("ENOMEM", "EIO", "EPIPE"),
    "poll": ("EINTR", "ENOMEM"),
    "clone": ("EAGAIN", "ENOMEM"),
}
"""For any other call: EIO."""
EVERY_ERROR = bool(os.environ.get("EVERY_ERROR"))
MADE_AGAIN = ("error=EINTR", "error=EAGAIN")
"""After these errors a call is repeated, and succeeds."""
CANNOT_FAIL = (
    *("alarm", "arch_prctl", "exit_group", "getegid", "geteuid", "getgid", "getpid", "gettid", "getuid"),
    *("rt_sigaction", "rt_sigreturn", "set_robust_list", "set_tid_address", "umask"),
)
"""Their manual pages list no errors, or only wrong arguments."""
NEEDED = (
    *("flock", "pread64", "pwrite64", "fdatasync", "fsync"),
    *("setgroups", "setresgid", "setresuid", "read(0, ", "write(0, "),
)
"""Without one of these there is no record, nothing to compare with, or no reader of the message."""
KEEPING = ("clone", "rt_sigprocmask", "munmap", "close", "pidfd_open", "poll", "kill", "wait4")
"""The calls of the bridge when the middle child stays until the backend has ended."""
LOADING = ("openat", "read", "pread64", "mmap", "brk")
PAM_SYSTEM_ERR = 4
"""libpam's own result when it cannot write the audit trail."""


def _failures(calls: list[Call], *, most: int = len(ERRORS), for_good: bool = False) -> list[tuple[Call, str]]:
    """Pair calls with the errors that each will meet.

    Args:
        calls: the calls; those that cannot fail are left out.
        most: the number of errors for one call.
        for_good: whether all later calls of the name fail, too.
    """
    pairs = []
    for call in calls:
        errors = ERRORS if EVERY_ERROR else ERRORS_OF.get(call.name, ("EIO",))[:most]
        if call.name not in CANNOT_FAIL:
            pairs += [(call, f"error={name}{'+' * for_good}") for name in errors]
    return pairs


def _right_code(stage: Stage, call: Call, how: str) -> None:
    """Log in with the right code. A success needs everything that belongs to it, and there is only one."""
    result = stage.disturb_backend(call, how, *stage.act.answers)
    needed = call.text.startswith(NEEDED) and how not in MADE_AGAIN
    assert result != PAM_SUCCESS or not needed, "a success all the same"
    assert_used_once_at_most(stage, result)


def _refused(stage: Stage, call: Call, how: str, *answers: str) -> None:
    result = stage.disturb_backend(call, how, *answers)
    assert result in REFUSALS, f"gave {result}"


def test_instrument__an_ignored_factor_would_be_seen(make_troupe: Callable[[str], Troupe]) -> None:
    assert make_troupe(NEVER_ENROLLED).lead.log_in() == PAM_PERM_DENIED
    assert PAM_PERM_DENIED not in REFUSALS


@pytest.mark.lockout("any system call of a login failed once")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.claim(
    "A login that is killed at any system call, or of which any call fails, lets no code in twice, and "
    "the next login works."
)
def test_backend__any_call_fails_and_no_code_works_twice(make_troupe: Callable[[str], Troupe], kind: str) -> None:
    troupe = make_troupe(kind)
    calls = from_the_first_frame(troupe.lead.backend_calls(*troupe.lead.act.answers))
    every_error = kind.endswith("totp")
    failures = _failures(calls, most=len(ERRORS) if every_error else 1)
    troupe.play(_right_code, drawn_failures(failures, SOME))


def test_backend__any_call_fails_for_good_and_no_code_works_twice(make_troupe: Callable[[str], Troupe]) -> None:
    """As on a disk that stays full: all later calls of the name fail, too."""
    troupe = make_troupe("first_totp")
    calls = from_the_first_frame(troupe.lead.backend_calls(*troupe.lead.act.answers))
    interrupted = "error=EINTR+"  # for ever: no kernel does that
    failures = [pair for pair in _failures(calls, most=1, for_good=True) if pair[1] != interrupted]
    troupe.play(_right_code, drawn_failures(failures, SOME))


def test_backend__any_call_fails_and_a_wrong_code_stays_wrong(make_troupe: Callable[[str], Troupe]) -> None:
    troupe = make_troupe("totp")
    calls = from_the_first_frame(troupe.lead.backend_calls(troupe.lead.act.wrong))
    troupe.play(
        lambda stage, call, how: _refused(stage, call, how, stage.act.wrong), drawn_failures(_failures(calls), SOME)
    )


def test_backend__any_call_fails_and_a_missing_token_file_never_lets_in(
    make_troupe: Callable[[str], Troupe],
) -> None:
    """The mark shows that the user has enrolled. An unreadable mark does not prove that they have not."""
    troupe = make_troupe(FILE_GONE)
    calls = from_the_first_frame(troupe.lead.backend_calls(*troupe.lead.act.answers))
    failures = drawn_failures(_failures(calls), SOME)
    troupe.play(lambda stage, call, how: _refused(stage, call, how, *stage.act.answers), failures)


def test_backend__any_call_fails_that_would_prove_that_the_user_never_enrolled(
    make_troupe: Callable[[str], Troupe],
) -> None:
    """Without proof there is no `PAM_IGNORE`. After EACCES the groups are looked up, and there is a second proof."""
    troupe = make_troupe(NEVER_ENROLLED)
    calls = from_the_first_frame(troupe.lead.backend_calls())
    proof = [call for call in calls if call.name in ("openat", "newfstatat", "setgroups", "setresgid", "setresuid")]
    pairs = [(call, f"{how}{'+' * (how == 'error=EACCES')}") for call, how in _failures(proof) if how not in MADE_AGAIN]
    troupe.play(_refused, drawn_failures(pairs, SOME))


def test_backend__any_call_fails_while_it_starts(make_troupe: Callable[[str], Troupe]) -> None:
    """It starts anyway, or the user is refused and has lost nothing."""
    troupe = make_troupe("totp")
    calls = troupe.lead.backend_calls(*troupe.lead.act.answers)
    calls = calls[1 : before_the_first_frame(calls)]

    def scene(stage: Stage, call: Call, how: str) -> None:
        result = stage.disturb_backend(call, how, *stage.act.answers)
        if result != PAM_SUCCESS:
            assert result in REFUSALS, f"gave {result}"
            assert stage.log_in(*stage.act.answers) == PAM_SUCCESS, "the code is lost"

    loading = [call for call in calls if call.name in LOADING]
    troupe.play(scene, drawn_failures(_failures(calls if EVERY_ERROR else loading, most=1), SOME))


def test_backend__any_call_fails_before_it_is_a_program(
    make_troupe: Callable[[str], Troupe], system_log: SystemLog
) -> None:
    """The bridge makes two child processes. In this test their calls between clone and execve fail."""
    troupe = make_troupe("totp")

    def scene(stage: Stage, call: Call, how: str) -> None:
        result = stage.disturb_children(call, how)
        assert_used_once_at_most(stage, result)
        stage.wait_for_the_end()

    troupe.play(scene, drawn_failures(_failures(troupe.lead.child_calls()), SOME))


@pytest.mark.parametrize("options", HOSTS, ids=HOST_IDS)
def test_host__any_call_fails_and_the_login_ends_in_time(
    make_troupe: Callable[[str], Troupe], system_log: SystemLog, options: tuple[str, ...]
) -> None:
    """The library's own refusal counts as one, although the code is used by then."""
    troupe = make_troupe("totp")

    def scene(stage: Stage, call: Call, how: str) -> None:
        result = stage.fail_host(call, how, *options)
        assert_used_once_at_most(stage, None if result == PAM_SYSTEM_ERR else result)
        stage.wait_for_the_end()

    calls = troupe.lead.host_calls(*options)
    if options:
        # The rest is the same as in a plain host.
        begin = [call.name for call in calls].index("clone")
        calls = [call for call in calls[begin:] if call.name in KEEPING]
        assert {"pidfd_open", "wait4"} <= {call.name for call in calls}
    troupe.play(scene, drawn_failures(_failures(calls, most=2), SOME))
