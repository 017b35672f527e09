"""Offer self-service where root keeps the tokens. The program runs itself again through sudo. That process is root's,
but it serves only its caller. It does only what callers could do themselves if the files were theirs.

The first half, `go_through_sudo`, runs as the user. The rest runs as root. It trusts only what sudo says about its
caller.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from typing import NoReturn

from pam_softtoken.account import user_lookup
from pam_softtoken.account.editor import UsersEditor
from pam_softtoken.enroll.run_context import PROGRAM
from pam_softtoken.errors import LookUpFailed, UnknownUser
from pam_softtoken.platform_facts import SUDO
from pam_softtoken.program_errors import EnrolmentFailed, UsageError
from pam_softtoken.signing import sudo_conf
from pam_softtoken.ui import terminal

INSTALLED = f"/usr/bin/{PROGRAM}"
"""An absolute path, as in the sudoers rule."""
FAILED = 3
"""The exit status of the program run by sudo, after it has shown its error. With 1, sudo itself has refused."""
LONGEST_LOCK_S = 10
_STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_LIMITS = (
    resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_CPU,
    resource.RLIMIT_RTTIME,
)  # fmt: skip


def go_through_sudo(screen: terminal.Terminal, arguments: list[str], *, user: str, path: str) -> NoReturn:
    """Run root's process on the same terminal, and exit with its exit status.

    Args:
        arguments: the command line.
        user: the name of the current user.
        path: the place where root keeps the tokens.

    Raises:
        EnrolmentFailed: sudo is not available, or sudo has refused.
        KeyboardInterrupt: it was interrupted at sudo's question.
        SystemExit: otherwise.
    """
    administrator = f"ask an administrator for: {PROGRAM} --user {user}"
    for program in (SUDO, INSTALLED):
        if not os.access(program, os.X_OK):
            raise EnrolmentFailed(
                f"tokens of this host are kept by root in {path}, and there is no {program} to reach them",
                hint=administrator,
            )
    screen.tell("The tokens of this host are kept by root: sudo asks for your password.")
    command = [SUDO, "--", INSTALLED, "--self", *arguments]
    # Keep the usual signal handling: the terminal sends signals to sudo as well as to this waiting process.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.posix_spawn(SUDO, command, os.environ, setsigmask=(), setsigdef=terminal.SIGNALS)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        raise KeyboardInterrupt
    if status == 1:
        raise EnrolmentFailed(
            f"sudo did not let {user} do that; nothing was changed",
            hint=f"where sudo asks for a code that you cannot have yet, {administrator}",
        )
    raise SystemExit(1 if status == FAILED else status)


def caller() -> str:
    """Return the name of the user for whom sudo has started this program as root.

    Raises:
        UsageError: there is none, or it is root itself, which needs none of this.
    """
    if os.getuid() != 0 or os.geteuid() != 0:
        raise UsageError("--self works only through sudo, and this is not root", hint=f"{PROGRAM}, without --self")
    uid, name = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_USER", "")
    try:
        account = user_lookup.account_of_name(name)
    except (LookUpFailed, UnknownUser):
        account = None
    if account is None or str(account.uid) != uid:
        raise UsageError("--self is for users who come through sudo", hint=f"as root: {PROGRAM} --user USER")
    if account.uid == 0:
        raise UsageError("--self is not for root", hint=f"{PROGRAM}, without --self")
    return account.name


def sudo_has_plugin() -> bool:
    """Check whether the sudo that started this process has loaded the plugin that asks for signatures.

    A line in sudo.conf would not prove it: other implementations of sudo do not read that file. The process of sudo is
    root's, and only sudo itself can put a file of that name into its memory. If sudo has replaced itself with this
    program, this is not known.
    """
    parent = os.getppid()
    process = f"/proc/{parent}"
    try:
        if os.readlink(f"{process}/exe") != os.path.realpath(SUDO):
            return False
        with open(f"{process}/status", encoding="ascii", errors="replace") as file:
            effective, saved = next(line for line in file if line.startswith("Uid:")).split()[2:4]
        with open(f"{process}/maps", encoding="utf-8", errors="surrogateescape") as file:
            is_loaded = any(line.rstrip("\n").endswith(f"/{sudo_conf.FILE}") for line in file)
        # The caller can kill sudo, and then another process gets its number.
        return effective == saved == "0" and is_loaded and os.getppid() == parent
    except (OSError, StopIteration):
        return False


def settle_in() -> None:
    """Undo what a caller can do to a process that sudo starts, if it could affect the caller's own files.

    Callers can stop the process at the terminal, but only while it asks a question. It holds no lock then.
    """
    for limit in _LIMITS:
        # In some containers root cannot exceed a hard limit. Then raise it as far as possible.
        for highest in (resource.getrlimit(limit)[1], resource.RLIM_INFINITY):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(limit, (highest, highest))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    terminal.interrupt_only_at_questions(_STOPPING)


class BriefEditor(UsersEditor):
    """The files of a user, in a process whose caller can delay it. Its result is not read by the caller.

    The process is ended if it holds the lock for too long. The files are whole in any case.
    """

    __slots__ = ()

    def lock(self, timeout_s: float) -> None:
        """Acquire the lock, for `LONGEST_LOCK_S` at most."""
        super().lock(timeout_s)
        signal.alarm(LONGEST_LOCK_S)

    def unlock(self) -> None:
        """Release the lock."""
        super().unlock()
        signal.alarm(0)

    def close(self) -> None:
        """Close all files. This releases the lock."""
        super().close()
        signal.alarm(0)
