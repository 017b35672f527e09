"""Get root in without a code, as README and manual say for console, rescue mode and live system, in a real tree.

A live system is a chroot without /proc, /run and a log. A shell in place of init has a read-only disk.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.account import Person
from tests.support.fresh_debian import ENVIRONMENT, FreshDebian, InsideHost, InsideSu, Resident
from tests.support.leak import keep, keep_code
from tests.support.packages import NAMES, Packages

_CHROOT = 'mount --bind / /mnt; [ ! "$1" ] || mount -o "$1" /mnt; shift; exec chroot /mnt "$@"'
LIVE, READ_ONLY = "", "remount,bind,ro"
CODE_FOR_ROOT = "softtoken-admin code-for root --for 1h"
PATIENCE_S = 120
PASSWORD_OF_ROOT = keep("a password of root's")


class Root(Resident):
    """root of the fresh Debian, with a password."""

    def __init__(self, tree: FreshDebian) -> None:
        self.tree = tree
        self.name, self.uid, self.gid, self.password = "root", 0, 0, PASSWORD_OF_ROOT
        self.home = Path("/root")
        tree.run("chpasswd", typed=f"root:{self.password}\n")

    def remove(self) -> None:
        """Lock root again, as before, and remove the tokens."""
        self.tree.run("usermod", "--password", "*", "root")
        self.tree.run("rm", "-rf", "/root/.softtoken", "/var/lib/softtoken/enrolled/0")


_TERMINAL = """
import os, pty, select, subprocess, sys, tty

terminal, end = pty.openpty()
process = subprocess.Popen(["setsid", "--ctty", *sys.argv[1:]], stdin=end, stdout=end, stderr=end)
tty.setraw(0)
targets = {0: terminal, terminal: 1}
while True:
    for source in select.select(list(targets), [], [])[0]:
        try:
            data = os.read(source, 1024)
        except OSError:
            data = b""
        if not data:
            sys.exit()
        os.write(targets[source], data)
        if source == terminal and end is not None:
            os.close(end)
            end = None
"""
"""Run a command on a new terminal of the tree, and hold that open until the command shows something.

util-linux's login closes its terminal at first, and opens it again. script(1) would take that for the end.
"""


class InsideLogin(InsideHost):
    """`login` of the fresh Debian on its own terminal, with the name given."""

    service = "login"
    shell_has_prompt = True

    def command(self, person: Person) -> list[str]:
        return self.tree.command("python3", "-I", "-c", _TERMINAL, "login", "--", person.name)


def rescue(tree: FreshDebian, *words: str, kind: str = LIVE) -> subprocess.CompletedProcess[str]:
    """Run a command as root with nothing of the machine but its disk."""
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", _CHROOT, "sh", kind, *words)
    return tree.try_to_run(*words, environment={**ENVIRONMENT, "DEBIAN_FRONTEND": "teletype"})


def code_in(printed: str) -> str:
    """Return the issued code."""
    (code,) = re.findall(r"\b[0-9A-Z]{4}(?:-[0-9A-Z]{4}){2}\b", printed)
    return keep_code(code)


@pytest.fixture
def locked_out(debian: FreshDebian, packages: Packages) -> Iterator[Root]:
    """root without phone and recovery codes, on a host where every service asks for a code."""
    debian.unpack_and_configure(*(packages[name] for name in NAMES if name != "softtoken"))
    root = Root(debian)
    root.link("--type=hotp", "--recovery-codes=0")
    debian.run("pam-auth-update", "--enable", "softtoken")
    yield root
    root.remove()


@pytest.fixture
def su(debian: FreshDebian) -> Iterator[InsideSu]:
    """Another user who runs `su`."""
    caller = Resident(debian)
    yield InsideSu(debian, caller)
    caller.remove()


@pytest.mark.lockout(
    "root lost phone and codes, with a live system (no /proc, /run and log)",
    shows="Verification code:",
    cure="softtoken-admin code-for root --for 1h",
)
@pytest.mark.lockout(
    "root lost phone and codes, with a shell in place of init (read-only disk)",
    shows="Read-only file system",
    cure="mount -o remount,rw /",
)
@pytest.mark.lockout(
    "root lost phone and codes, in rescue mode (sulogin)",
    shows="Give root password for maintenance",
    cure="softtoken-admin code-for root --for 1h",
)
@pytest.mark.lockout(
    "codes cannot be had by anybody, with a live system", shows="Verification code:", cure="softtoken-admin disable su"
)
@pytest.mark.lockout(
    "pam-auth-update turned codes on, and nobody can get in, with a live system",
    shows="Verification code:",
    cure="pam-auth-update --disable softtoken",
)
def test_root__without_phone_and_codes_gets_back_in(debian: FreshDebian, locked_out: Root, su: InsideSu) -> None:
    login = InsideLogin(debian)
    assert_refused(su, locked_out)
    assert_refused(login, locked_out)

    # A live system: /proc, /run and /dev/log do not exist.
    assert rescue(debian, "ls", "-d", "/proc/1", "/run/sshd", "/dev/log").stdout == ""
    code = code_in(rescue(debian, *CODE_FOR_ROOT.split()).stdout)
    assert login.log_in(locked_out, code).entered_as == "root"
    assert_refused(login, locked_out, code)

    # A shell in place of init: the disk is read-only until it is mounted again.
    for command in (CODE_FOR_ROOT, "softtoken-admin disable su"):
        done = rescue(debian, *command.split(), kind=READ_ONLY)
        assert (done.returncode, "Read-only file system" in done.stderr) == (1, True), done
        assert "Traceback" not in done.stderr, done
    done = rescue(debian, "sh", "-euc", f"mount -o remount,rw /; {CODE_FOR_ROOT}", kind=READ_ONLY)
    assert su.log_in(locked_out, code_in(done.stdout)).entered_as == "root"

    # Rescue mode: sulogin asks for root's password, and no PAM service asks for a code.
    screen = pexpect.spawn(
        "nsenter", debian.command("script", "--quiet", "--return", "--command", "sulogin", "/dev/null")[1:],
        encoding="utf-8", timeout=PATIENCE_S, env={**ENVIRONMENT, "TERM": "dumb"}, cwd="/",
    )  # fmt: skip
    screen.expect_exact(["Give root password for maintenance", "Enter root password for system maintenance"])
    screen.sendline(locked_out.password)
    screen.expect_exact("# ")
    screen.sendline(f"{CODE_FOR_ROOT}; exit")
    screen.expect(pexpect.EOF)
    screen.close()
    assert su.log_in(locked_out, code_in(screen.before or "")).entered_as == "root"

    # Codes off: for all services that include common-auth, and for one.
    done = rescue(debian, "pam-auth-update", "--disable", "softtoken")
    assert done.returncode == 0, done
    assert login.log_in(locked_out).entered_as == "root"
    enable_and_confirm(debian, "su")
    assert_refused(su, locked_out)
    done = rescue(debian, "softtoken-admin", "disable", "su")
    assert done.returncode == 0, done
    assert su.log_in(locked_out).entered_as == "root"
    by_hand = debian.path("/etc/pam.d/login").read_text() + "auth required pam_softtoken.so\n"
    debian.write("/etc/pam.d/login", by_hand)
    assert_refused(login, locked_out)
    done = rescue(debian, "softtoken-admin", "disable", "login")
    assert done.returncode == 0, done
    assert login.log_in(locked_out).entered_as == "root"


def enable_and_confirm(tree: FreshDebian, service: str) -> None:
    """Enable codes for a service, even if that locks users out, and confirm the change."""
    words = tree.command("softtoken-admin", "enable", service, "--yes", "--force", "--for", "1h")
    with subprocess.Popen(words, env=ENVIRONMENT, cwd="/", stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        said: list[str] = []
        while "asks for a code now" not in "".join(said[-1:]):
            said.append(program.stderr.readline())
            assert said[-1], said
        tree.run("softtoken-admin", "confirm", service)
        program.communicate(timeout=PATIENCE_S)


def assert_refused(host: InsideHost, person: Person, *codes: str) -> None:
    visit = host.log_in(person, *(codes or ("000000",)))
    assert (visit.entered_as, visit.prompts) == ("", ["password", "code"]), visit
