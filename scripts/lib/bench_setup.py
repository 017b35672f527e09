"""Set up `scripts/bench`: the modules with their tokens, and a private view of /dev, /run and /etc around them.

This runs inside a mount namespace. So it never reaches the machine's own files, and no mount must be undone.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
DATA = Path("/var/lib")
FIRST_COUNTER = 1  # google-authenticator knows no 0
_PR_SET_CHILD_SUBREAPER = 36
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_PYTHON_MODULE = """\
def pam_sm_authenticate(pamh, flags, argv):
    pamh.conversation(pamh.Message(pamh.PAM_PROMPT_ECHO_OFF, "Verification code: "))
    return pamh.PAM_SUCCESS


def pam_sm_setcred(pamh, flags, argv):
    return pamh.PAM_SUCCESS
"""


class BenchError(Exception):
    """The bench cannot go on. The text is for the user that runs it."""


def run(*command: str | Path, text: str | None = None) -> str:
    """Run a command of the set-up and return its output.

    Raises:
        BenchError: it failed.
    """
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class SystemLog:
    """Reads /dev/log as a log daemon would.

    Without a reader, glibc writes some modules' lines to the console and drops those of others. No real host does that.
    It made google-authenticator a millisecond slower.
    """

    def __init__(self, path: Path) -> None:
        self._recent: deque[str] = deque(maxlen=1000)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while data := self._socket.recv(8192):
            self._recent.append(data.decode("utf-8", "replace"))

    def tail(self) -> str:
        """Return some of the last lines, to show why something failed."""
        lines = list(self._recent)
        refusals = [line for line in lines if "result=denied" in line]
        return "\n".join((refusals or lines)[-5:])


def adopt_orphans() -> None:
    """Become the parent of orphaned processes, so that the CPU time of our module's backend is counted here."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise BenchError(f"prctl: {os.strerror(ctypes.get_errno())}")


def children() -> set[int]:
    """Return the ids of all children, adopted ones too."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        found.update(map(int, path.read_text().split()))
    return found


def reap(lasting: frozenset[int] = frozenset()) -> None:
    """Wait for all children, adopted ones too, apart from those that last as long as the bench."""
    with contextlib.suppress(ChildProcessError):
        while others := children() - lasting:
            os.waitpid(others.pop(), 0)


@dataclass(slots=True)
class Service:
    """A PAM service with one module in it, and the soft token of its user.

    Attributes:
        name: of its file in the private directory of services.
        counter: of the next code.
        user: who logs in.
    """

    name: str
    counter: int = FIRST_COUNTER
    user: str = "root"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A module to measure.

    Attributes:
        key: short name.
        title: as in the tables, which have little room.
        enrol: makes a token for root in an empty directory; returns the line of the PAM service, with our options.
    """

    key: str
    title: str
    enrol: Callable[..., str]


class Workshop:
    """The directory that holds everything, with a copy of the product and the client that logs in.

    Args:
        directory: the place to make it, on the disk whose speed counts.
        code_count: the number of codes that each token will need.
        other: another source tree of the product, to be measured as well.

    Attributes:
        around: words before the command line of each client.
        lasting: children that do not end with a login.
    """

    def __init__(self, directory: Path, code_count: int, *, other: Path | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="softtoken-bench-", dir=directory))
        self.path.chmod(0o755)
        self.client = self.path / "client"
        self._sources = {"tree": TREE} | ({"other-tree": other} if other is not None else {})
        self.services = self.path / "pam.d"
        self.services.mkdir()
        # Every host has this file. Without it, libpam logs a complaint at each login.
        (self.services / "other").write_text("auth required pam_deny.so\n")
        self._key = secrets.token_bytes(20)
        self._code_count = code_count
        self._codes: list[str] = []
        self.around: tuple[str, ...] = ()
        self.lasting: frozenset[int] = frozenset()
        self.log: SystemLog

    def remove(self) -> None:
        """Remove the directory. Mounts go with the process, unless `isolate` was interrupted with one still here."""
        for name in ("dev", "etc", "lib"):
            if (self.path / name).is_mount():
                subprocess.run(["umount", "--recursive", "--lazy", self.path / name], check=False)
        shutil.rmtree(self.path, ignore_errors=True)

    def prepare(self) -> None:
        """Build the product and the client, and compute the codes.

        The source tree may belong to another user. The bridge would refuse to start its backend for root.
        """
        for name, source in self._sources.items():
            tree = self.path / name
            for part in ("pam_softtoken", "scripts"):
                if not (source / part).is_dir():
                    raise BenchError(f"{source}: is no source tree of pam_softtoken")
                shutil.copytree(source / part, tree / part, ignore=shutil.ignore_patterns("__pycache__", "*.bundle"))
            # A copy has new owners but keeps its modes. A group-writable file would be refused.
            run("chmod", "-R", "go-w", tree)
            run(tree / "scripts/build")
        run("gcc", "-D_GNU_SOURCE", "-O2", "-o", self.client, TREE / "tests/pam/client.c", "-lpam")
        words = ("oathtool", "--hotp", "-c", str(FIRST_COUNTER), "-w", str(self._code_count), self._key.hex())
        self._codes = run(*words).split()

    def isolate(self) -> None:
        """Create a private /dev with our own log, an empty /run, a copy of /etc, and a /var/lib with nothing but
        the list of packages. Child processes share them.

        The whole directory is copied: a mount on a single file goes away when another file is renamed to its place.
        """
        devices = self.path / "dev"
        devices.mkdir()
        run("mount", "-t", "tmpfs", "-o", "mode=755", "dev", devices)
        for name in _DEVICES:
            (devices / name).touch()
            run("mount", "--bind", f"/dev/{name}", devices / name)
        (devices / "pts").mkdir()
        run("mount", "--bind", "/dev/pts", devices / "pts")
        (devices / "ptmx").symlink_to("pts/ptmx")
        (devices / "fd").symlink_to("/proc/self/fd")
        self.log = SystemLog(devices / "log")
        run("mount", "--move", devices, "/dev")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
        # Without this, root and the user of the ssh logins would stay marked as enrolled on this machine.
        data = self.path / "lib"
        data.mkdir()
        run("mount", "-t", "tmpfs", "-o", "mode=755", "lib", data)
        (data / "dpkg").mkdir()
        run("mount", "--bind", DATA / "dpkg", data / "dpkg")
        run("mount", "--move", data, DATA)
        # In memory, so that no copy of /etc/shadow can stay on the disk.
        settings = self.path / "etc"
        settings.mkdir()
        run("mount", "-t", "tmpfs", "-o", "mode=755", "etc", settings)
        # Another program's lock or temporary file may vanish meanwhile. Only the files that we need must be there.
        done = subprocess.run(["cp", "-a", "/etc/.", settings], capture_output=True, text=True, check=False)
        if not all((settings / name).exists() for name in ("passwd", "shadow", "group", "nsswitch.conf", "pam.d")):
            raise BenchError(f"cannot copy /etc: {done.stderr.strip()}")
        run("mount", "--move", settings, "/etc")

    def add_service(self, candidate: Candidate, number: int = 0, *options: str) -> Service:
        """Add a PAM service for root with its own token and files. The options are for our module."""
        name = f"{candidate.key}-{number}"
        store = self.path / "store" / name
        store.mkdir(mode=0o700, parents=True)
        (self.services / name).write_text(candidate.enrol(self, store, *options))
        return Service(name)

    def take_codes(self, service: Service, count: int) -> list[str]:
        """Return the next codes of the soft token."""
        start = service.counter - FIRST_COUNTER
        service.counter += count
        return self._codes[start : start + count]

    def enrol_ours(self, user: str, *options: str, tree: str = "tree") -> None:
        """Run `softtoken-enroll` with our key."""
        program = self.path / tree / "scripts/softtoken-enroll"
        words = ("--user", user, "--no-confirm", "--json", "--type", "hotp", "--key-file", "-")
        run(program, *words, *options, text=base64.b32encode(self._key).decode())

    def google_file(self) -> str:
        """Return the text of a google-authenticator file with our key."""
        return f'{base64.b32encode(self._key).decode()}\n" HOTP_COUNTER {FIRST_COUNTER}\n'

    def oath_line(self, user: str) -> str:
        """Return the line of a pam_oath file with our key."""
        return f"HOTP {user} - {self._key.hex()}\n"

    def line_of_ours(self, *options: str, tree: str = "tree") -> str:
        """Return the PAM line that runs our module."""
        backend = f"backend={self.path}/{tree}/scripts/softtoken-backend"
        return f"auth required {self.path}/{tree}/build/pam_softtoken.so {' '.join((backend, *options))}\n"


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _enrol_ours(shop: Workshop, store: Path, *options: str, tree: str = "tree") -> str:
    """Enrol once and copy: the recovery codes' hashes take half a second each time."""
    first = shop.path / "store" / f"enrolled-{tree}"
    if not first.exists():
        first.mkdir(mode=0o700)
        shop.enrol_ours("root", "--store", f"{first}/%U", tree=tree)
    shutil.copytree(first, store, dirs_exist_ok=True)
    return shop.line_of_ours(f"store={store}/%U", *options, tree=tree)


def _enrol_other(shop: Workshop, store: Path, *options: str) -> str:
    return _enrol_ours(shop, store, *options, tree="other-tree")


def _enrol_google(shop: Workshop, store: Path, *_: str) -> str:
    _write_private(store / "secret", shop.google_file())
    return f"auth required pam_google_authenticator.so secret={store}/secret user=root\n"


def _enrol_oath(shop: Workshop, store: Path, *_: str) -> str:
    _write_private(store / "users", shop.oath_line("root"))
    return f"auth required pam_oath.so usersfile={store}/users\n"


def _enrol_python(shop: Workshop, store: Path, *_: str) -> str:
    (store / "module.py").write_text(_PYTHON_MODULE)
    return f"auth required pam_python.so {store}/module.py\n"


def _enrol_nothing(shop: Workshop, store: Path, *_: str) -> str:
    return "auth required pam_permit.so\n"


OURS = Candidate("ours", "ours", _enrol_ours)
OTHER = Candidate("other", "other", _enrol_other)
GOOGLE = Candidate("google", "google-a.", _enrol_google)
OATH = Candidate("oath", "pam_oath", _enrol_oath)
PYTHON = Candidate("python", "pam_python", _enrol_python)
NOTHING = Candidate("nothing", "pam_permit", _enrol_nothing)


def file_system_of(path: Path) -> tuple[str, str]:
    """Return the type of file system and the device of a path."""
    best = ("", "", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, place, kind = line.split(" ")[:3]
        if path.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind, device)
    return best[1], best[2]


def check_place(path: Path) -> None:
    """Check that the bench can have a directory's files.

    Raises:
        BenchError: it is hidden, or it does not exist.
    """
    if not path.is_dir():
        raise BenchError(f"{path}: not a directory")
    if path.resolve().is_relative_to(DATA):
        raise BenchError(f"{path} would be hidden by the bench's own {DATA}; --directory takes one elsewhere")


def check_disk(path: Path) -> None:
    """Check that a directory is not in memory, where durable storing costs nothing.

    Raises:
        BenchError: it is in memory, hidden, or it does not exist.
    """
    check_place(path)
    if file_system_of(path.resolve())[0] in ("tmpfs", "ramfs"):
        raise BenchError(f"{path} is in memory; --directory takes one on a disk")


@contextlib.contextmanager
def running(commands: Sequence[Sequence[str | Path]], **options: object) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes, and kill the remaining ones at the end."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            processes.append(subprocess.Popen(command, text=True, **options))  # type: ignore[call-overload]
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
