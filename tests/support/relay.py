"""A host whose tokens are root's, where programs without root ask root's service. The test stands in for systemd: it
listens at the socket, and starts the real service program for each connection.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pam_softtoken.account import places, state_format
from tests.support.account import Person, Phone
from tests.support.client import Outcome
from tests.support.installation import Installation
from tests.support.leak import keep_answer
from tests.support.private_mounts import PrivateMounts

LOCKER = "locker"
"""The PAM service of a program without root."""
_INSIDE = """
mount --bind "$1/security" /etc/security
install -d -m 711 /run/softtoken
"""


def identity_of(person: Person) -> list[str]:
    """Return the words before a command that a person runs."""
    return ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", "--clear-groups"]


def keep_answered(answer: str) -> str:
    """Return an answer, once no log may show it any more."""
    keep_answer(answer)
    return answer


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop a process for the length of the `with` block."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def broken_copy(installed: Installation, target: Path, file: str, right: str, wrong: str) -> Installation:
    """Return a copy of the installation with one text of one module replaced, which stands there once."""
    copy = Installation.copied(installed.root, target)
    source = copy.package / file
    text = source.read_text()
    assert text.count(right) == 1
    source.write_text(text.replace(right, wrong))
    for bundle in copy.package.glob("login.*.bundle"):
        bundle.unlink()
    return copy


class RelayHost:
    """Such a host, in a mount namespace.

    Args:
        directory: for its files; must not exist.
        installed: the installation whose module and service program it runs.
        bridge: another bridge than that of the installation.

    Attributes:
        installed: the same.
        log: the system log inside.
        program: another service program than that of the installation.
        listener: the real listener, once it was started.
        served: the service's processes, in the order of the connections.
    """

    def __init__(self, directory: Path, installed: Installation, *, bridge: Path | None = None) -> None:
        self.installed = installed
        self._bridge = bridge or installed.bridge
        self.mounts = PrivateMounts(directory)
        self.log = self.mounts.log
        self._directory = directory
        (directory / "tokens").mkdir(0o700)
        shutil.copytree("/etc/security", directory / "security")
        self.set_conf("")
        self.run("sh", "-euc", _INSIDE, "sh", str(directory))
        self.set_line()
        self.listener: subprocess.Popen[bytes] | None = None
        self.program: tuple[str, ...] = ()
        self.served: list[subprocess.Popen[bytes]] = []
        self._socket: socket.socket | None = None
        self.listen()

    def close(self) -> None:
        """Stop listening, end the service's processes and release the namespace."""
        self.stop_listening()
        for process in (*self.served, *([self.listener] if self.listener is not None else [])):
            process.kill()
            process.wait()
        self.mounts.close()

    def set_conf(self, text: str) -> None:
        """Write the host's settings, besides the store."""
        (self._directory / "security" / "softtoken.conf").write_text(f"store = {self._directory}/tokens/%U\n{text}")

    def set_line(self, *options: str, service: str = LOCKER) -> None:
        """Write a PAM service of our line alone."""
        words = [option if " " not in option else f"[{option}]" for option in options]
        self.mounts.set_service(service, f"auth required {self._bridge} {' '.join(words)}\n")

    @property
    def path(self) -> Path:
        """Return the outside path of the socket."""
        return self.mounts.path(places.RELAY_SOCKET)

    def listen(self) -> None:
        """Do what systemd does with `Accept=yes`."""
        listener = self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self.path))
        self.path.chmod(0o666)
        listener.listen(64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def listen_as_systemd(self) -> None:
        """Start the real listener, and give it the socket, as the unit does."""
        self.stop_listening()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self.path))
            self.path.chmod(0o666)
            listener.listen(64)
            self.start_listener(listener)

    def start_listener(self, listener: socket.socket) -> None:
        """Start the real listener at a socket."""
        program = self.installed.root / "scripts" / "softtoken-relay"
        command = self.mounts.command("/usr/bin/python3", "-I", "-S", "-B", str(program))
        self.listener = subprocess.Popen(command, stdin=listener.fileno(), stdout=subprocess.DEVNULL, env={})

    def stop_listening(self) -> None:
        """Remove the socket, as `systemctl stop` does."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self.path.unlink(missing_ok=True)
            self._socket = None

    def _accept(self, listener: socket.socket) -> None:
        program = self.installed.root / "scripts" / "softtoken-relay"
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            command = self.mounts.command(*(self.program or ("/usr/bin/python3", "-I", "-S", "-B", str(program))))
            with connection:
                self.served.append(
                    subprocess.Popen(command, stdin=connection.fileno(), stdout=subprocess.DEVNULL, env={})
                )

    def enrol(self, person: Person, *options: str) -> Phone:
        """Enrol a user with the settings of this host."""
        words = ("--user", person.name, "--no-confirm", "--json", "--recovery-codes=0", *options)
        done = self.run(str(self.installed.enroll), *words)
        return Phone(json.loads(done.stdout))

    def wrong_answers(self, person: Person) -> dict[str, int]:
        """Return how many wrong answers each source has to wait for, by the name of the source or of all others."""
        data = (self.store_of(person) / "state").read_bytes()
        return {name: wrong for name, (wrong, _) in state_format.decode(data, path="state")[1].wrong.items()}

    def store_of(self, person: Person) -> Path:
        """Return the directory of a user's token file."""
        return self._directory / "tokens" / str(person.uid)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command there as root."""
        command = self.mounts.command(*words)
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)

    def command(
        self, caller: Person, user: Person | str, *options: str, service: str = LOCKER, around: Sequence[str] = ()
    ) -> list[str]:
        """Return the command line of a program that a caller runs, and that asks for a user's code."""
        name = user if isinstance(user, str) else user.name
        return self.mounts.command(*around, *identity_of(caller), str(self.installed.client), *options, service, name)

    def hold(self, caller: Person) -> subprocess.Popen[str]:
        """Start that program, and return it when it has been asked for a code."""
        command = self.command(caller, caller, "--tell")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "Verification code" in process.stdout.readline(), self.log.ours()
        return process

    def ask(
        self,
        caller: Person,
        user: Person | str,
        *answers: str,
        options: Iterable[str] = (),
        service: str = LOCKER,
        attempts: int = 1,
        around: Sequence[str] = (),
    ) -> Outcome:
        """Run that program, and return the outcome of its last attempt."""
        for answer in answers:
            keep_answer(answer)
        done = subprocess.run(
            self.command(caller, user, *options, f"--repeat={attempts}", service=service, around=around),
            input="".join(f"={answer}\n" for answer in answers),
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Outcome(done.stdout.splitlines()[-1])

    def lie(self, caller: Person | None, user: Person, *answers: str, **claims: object) -> dict[str, object]:
        """Run a program of a caller's that speaks to the service itself, or one of root's if there is no caller.

        Args:
            caller: runs the program.
            user: whom it asks about.
            answers: what it answers.
            claims: fields of the first frame, by the names in `raw_caller`, and "kind" and "arguments". With
                "gone_after" it is gone after so many of the service's frames.

        Returns:
            The kinds of the service's frames, and the result; None if the service said nothing.
        """
        identity = identity_of(caller) if caller is not None else []
        claimed = json.dumps({"user": user.name, "name": user.name, **claims})
        script = (Path(__file__).with_name("raw_caller.py")).read_text()
        done = self.run(*identity, "/usr/bin/python3", "-I", "-c", script, claimed, *map(keep_answered, answers))
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def root_asks(self, user: Person, *answers: str, options: Iterable[str] = ()) -> Outcome:
        """Ask in a program that runs as root, which starts the backend itself."""
        self.set_line(f"backend={self.installed.backend}", service="roots")
        command = self.mounts.command(str(self.installed.client), *options, "roots", user.name)
        typed = "".join(f"={answer}\n" for answer in answers)
        done = subprocess.run(command, input=typed, check=True, capture_output=True, text=True, timeout=60)
        return Outcome(done.stdout)
