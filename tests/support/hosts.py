"""Real programs that ask through PAM - sshd, sudo, su, login - with a person at a terminal in front of them."""

from __future__ import annotations

import functools
import io
import os
import re
import select
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect

from tests.support.account import Person
from tests.support.private_mounts import PrivateMounts
from tests.support.process import Process, descendants, is_running, wait_until

STEP_S = 60
"""The request of ioctl that opens the other end of a terminal."""
UNIX_PASSWORD = "auth required pam_unix.so nodelay\n"
UNIX_PASSWORD_OR_STOP = "auth requisite pam_unix.so nodelay\n"
# As in Debian's common-auth: it accepts users that everything above ignored.
NOTHING_ELSE = "auth required pam_permit.so\n"
REST = "account required pam_unix.so\nsession required pam_unix.so\npassword required pam_deny.so\n"

PASSWORD, CODE, SHELL, SESSION, REFUSED, END = range(6)
WHO = 'echo "session of $(id -un)"'
# Without stdin, stdout is still the terminal. sudo 1.9.13 hangs now and then if its command ends at once.
WHO_AND_STAY = f"{WHO}; read -r line <&1"


class Visit:
    """The result of one person's attempt to log in.

    Attributes:
        prompts: `password` and `code`, in the order of the questions.
        entered_as: the output of `id -un` in the session; empty if there was none.
        screen: everything that the terminal showed.
    """

    def __init__(self, terminal: pexpect.spawn[str], record: io.StringIO) -> None:
        self.prompts: list[str] = []
        self.entered_as = ""
        self._terminal = terminal
        self._record = record

    @property
    def screen(self) -> str:
        return self._record.getvalue()

    @property
    def pid(self) -> int:
        """Return the process that was started on the terminal."""
        assert self._terminal.pid is not None
        return self._terminal.pid

    def __repr__(self) -> str:
        return f"<entered as {self.entered_as!r} after {self.prompts}; screen: {self.screen!r}>"


class Host(ABC):
    """A program that asks through PAM, run with private services.

    Args:
        mounts: the namespace with the services.
        password: it asks for the Unix password before our module asks for the code.

    Attributes:
        service: its PAM service name.
        rhost: the remote host that it reports.
        silent: it asks modules to show nothing (PAM_SILENT).
        environment: additional variables of the caller, if the caller is an ordinary user.
        around: a command of the caller's that runs the program, and changes what it inherits.
        shell_has_prompt: a session is a shell that waits for a command.
        reopens_terminal: it closes its terminal at first, and opens it again before it shows something.
    """

    service: str
    rhost = ""
    silent = False
    shell_has_prompt = False
    reopens_terminal = False

    def __init__(self, mounts: PrivateMounts, *, password: bool) -> None:
        self.mounts = mounts
        self.environment: dict[str, str] = {}
        self.around: list[str] = []
        self.first_prompts = ["password"] if password else []

    def use_stack(self, ours: str, *, first: str = UNIX_PASSWORD) -> None:
        """Write the PAM stack: the first factor, if it is PAM's, and then our lines."""
        stack = first + ours if self.first_prompts else ours + NOTHING_ELSE
        self.mounts.set_service(self.service, stack + REST)

    def log_in(self, person: Person, *codes: str, password: str | None = None) -> Visit:
        """Log in, look around, and leave again.

        Args:
            person: the user.
            codes: typed one after the other at prompts for a code. With none left, the person hangs up.
            password: another one than the right one.
        """
        with self.session(person, *codes, password=password) as visit:
            return visit

    @contextmanager
    def session(self, person: Person, *codes: str, password: str | None = None) -> Iterator[Visit]:
        """Log in and stay for the length of the `with` block, if accepted."""
        with self.terminal(person) as (terminal, record):
            visit = Visit(terminal, record)
            self._go_in(visit, terminal, person, list(codes), password or person.password)
            yield visit
            if visit.entered_as:
                terminal.sendline("exit")
                terminal.expect(pexpect.EOF)

    @contextmanager
    def terminal(
        self, person: Person, *, rows: int = 24, locale: str = "C.UTF-8"
    ) -> Iterator[tuple[pexpect.spawn[str], io.StringIO]]:
        """Start the program on a terminal. Return the terminal, and what it shows. Close it at the end."""
        record = io.StringIO()
        command = self.command(person)
        terminal = pexpect.spawn(
            command[0],
            command[1:],
            env={"PATH": os.environ["PATH"], "LC_ALL": locale, "TERM": "dumb"},
            encoding="utf-8",
            codec_errors="replace",
            timeout=STEP_S,
            dimensions=(rows, 250),
            preexec_fn=_heed_hang_up,
        )
        terminal.delaybeforesend = None
        # Otherwise each attempt would take a tenth of a second longer than necessary.
        terminal.ptyproc.delayafterclose = terminal.ptyproc.delayafterterminate = 0.02  # type: ignore[attr-defined]
        terminal.logfile_read = record
        try:
            if self.reopens_terminal:
                _wait_for_output(terminal)
            yield terminal, record
        finally:
            terminal.close(force=True)

    def processes_of(self, visit: Visit) -> list[Process]:
        """Return the processes that this program made for the login, and the session's."""
        return descendants(visit.pid)

    def caller_uid_of(self, person: Person) -> int:
        """Return the user id of the user that runs this program."""
        return 0

    def log_line(self, person: Person, result: str, reason: str, *, token: str = "", detail: str = "") -> str:
        """Return the line that our module should log here."""
        uid = self.caller_uid_of(person)
        who = {"user": person.name, "uid": str(uid) if uid else "", "rhost": self.rhost, "token": token}
        words = [f"{key}={value}" for key, value in {**who, "result": result, "reason": reason}.items() if value]
        return f"pam_softtoken({self.service}:auth): {' '.join(words)}" + (f' detail="{detail}"' if detail else "")

    @abstractmethod
    def command(self, person: Person) -> list[str]:
        """Return the command that is started on the terminal."""

    @abstractmethod
    def becomes(self, person: Person) -> str:
        """Return the name of the user that owns that person's session here."""

    def _go_in(
        self, visit: Visit, terminal: pexpect.spawn[str], person: Person, codes: list[str], password: str
    ) -> None:
        awaited: list[Any] = [
            r"[Pp]assword[^\r\n]*: ",
            "Verification code: ",
            rf"{person.name}@[^\r\n]*[$#] " if self.shell_has_prompt else "(?!)",
            r"session of ([\w-]+)\r\n",
            r"Login incorrect\s+[^\r\n]*login: ",
            pexpect.EOF,
        ]
        while True:
            seen = terminal.expect(awaited)
            if seen == PASSWORD:
                visit.prompts.append("password")
                terminal.sendline(password)
            elif seen == CODE:
                visit.prompts.append("code")
                if not codes:
                    return
                terminal.sendline(codes.pop(0))
            elif seen == SHELL:
                terminal.sendline(WHO)
            else:
                if seen == SESSION:
                    assert isinstance(terminal.match, re.Match)
                    visit.entered_as = terminal.match[1]
                # A program that was never reached refuses nobody.
                assert seen == SESSION or visit.screen.strip(), f"{self.service} ended without a word"
                return


class Sudo(Host):
    """`sudo` on a terminal, as the person themselves, to become root."""

    service = "sudo"
    silent = True  # always up to 1.9.15, and later unless sudoers has !pam_silent

    def command(self, person: Person) -> list[str]:
        return self.mounts.command(
            *_as_person(person, self.environment), *self.around, "/usr/bin/sudo", "--", "sh", "-c", WHO_AND_STAY
        )

    def becomes(self, person: Person) -> str:
        return "root"

    def caller_uid_of(self, person: Person) -> int:
        return person.uid


class Su(Host):
    """Set-uid `su` on a terminal, as another user, to become the person.

    Args:
        mounts: the namespace with the services.
        password: it asks for the Unix password before our module asks for the code.
        caller: the other user.
    """

    service = "su"

    def __init__(self, mounts: PrivateMounts, caller: Person, *, password: bool) -> None:
        super().__init__(mounts, password=password)
        self.caller = caller
        # Otherwise su would wait for a second after each refusal.
        mounts.add_login_definition("FAIL_DELAY 0")

    def command(self, person: Person) -> list[str]:
        return self.mounts.command(
            *_as_person(self.caller, self.environment), *self.around, "/bin/su", person.name, "-c", WHO_AND_STAY
        )

    def caller_uid_of(self, person: Person) -> int:
        return self.caller.uid

    def becomes(self, person: Person) -> str:
        return person.name


class Login(Host):
    """`login` on a terminal, as root, with the name given, as getty starts it."""

    service = "login"
    shell_has_prompt = True
    reopens_terminal = True  # since Debian 13, where it is util-linux's

    def command(self, person: Person) -> list[str]:
        return self.mounts.command("/bin/login", "--", person.name)

    def becomes(self, person: Person) -> str:
        return person.name


class SSH(Host):
    """Our own sshd on a port of 127.0.0.1, and the ssh client on a terminal.

    Args:
        mounts: the namespace with the services.
        password: password and code through PAM; otherwise public key, then the code through PAM.
        settings: lines of sshd_config, before the usual ones.
        options: additional words of sshd's command line.

    Attributes:
        configuration: sshd's.
        knows_key: the person's authorized keys include their public key.
    """

    service = "sshd"
    rhost = "127.0.0.1"
    shell_has_prompt = True

    def __init__(
        self, mounts: PrivateMounts, *, password: bool, settings: str = "", options: tuple[str, ...] = ()
    ) -> None:
        super().__init__(mounts, password=password)
        self._settings = settings
        self._options = options
        self._tries = 1
        self.knows_key = not password
        self._directory = mounts.directory / "sshd"
        self._directory.mkdir(mode=0o700)
        self.client_key = self._make_key("client_key")
        self.host_key = self._make_key("host_key")
        self.configuration = self._directory / "sshd_config"
        self._log = self._directory / "sshd.log"
        self.port, self._server = self._start()

    def processes_of(self, visit: Visit) -> list[Process]:
        """Return the processes of all connections."""
        return descendants(self._server.pid)

    def allow_tries(self, tries: int) -> None:
        """Allow a person this number of answers in one connection. The default is one."""
        self._tries = tries

    def command(self, person: Person) -> list[str]:
        return ["/usr/bin/ssh", "-tt", *self.client_options(person), f"{person.name}@127.0.0.1"]

    def client_options(self, person: Person) -> list[str]:
        """Return the options that the programs of OpenSSH need for this server."""
        if self.knows_key:
            self._authorise(person)
        methods = ["keyboard-interactive"] if self.first_prompts else ["publickey", "keyboard-interactive"]
        options = {
            "IdentitiesOnly": "yes",
            "IdentityFile": self.client_key,
            "NumberOfPasswordPrompts": self._tries,
            "Port": self.port,
            "PreferredAuthentications": ",".join(methods),
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self._directory / "known_hosts",
        }
        return ["-F", "/dev/null", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]

    def becomes(self, person: Person) -> str:
        return person.name

    def close(self) -> None:
        """End the server and all its connections."""
        connections = descendants(self._server.pid)
        self._server.terminate()
        self._server.wait(STEP_S)
        wait_until(lambda: not any(is_running(each.pid) for each in connections), f"the end of {connections}")

    def _make_key(self, name: str) -> Path:
        path = self._directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, timeout=STEP_S)
        return path

    def _authorise(self, person: Person) -> None:
        directory = person.home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / "authorized_keys").write_bytes(self.client_key.with_suffix(".pub").read_bytes())
        for path in (directory, directory / "authorized_keys"):
            os.chown(path, person.uid, person.gid)

    def _start(self) -> tuple[int, subprocess.Popen[bytes]]:
        for _ in range(5):
            port = free_port()
            (self._directory / "known_hosts").write_text(
                f"[127.0.0.1]:{port} {self.host_key.with_suffix('.pub').read_text()}"
            )
            server = self._start_on(port)
            if server is not None:
                return port, server
        raise AssertionError(f"sshd does not start: {self._log.read_text()}")

    def _start_on(self, port: int) -> subprocess.Popen[bytes] | None:
        """Start on this port. Another process may take the port first, so this can fail."""
        factors = "keyboard-interactive:pam" if self.first_prompts else "publickey,keyboard-interactive:pam"
        self.configuration.write_text(
            f"{self._settings}ListenAddress 127.0.0.1:{port}\nHostKey {self.host_key}\nPidFile none\nLogLevel VERBOSE\n"
            "UsePAM yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\nPubkeyAuthentication yes\n"
            f"AuthenticationMethods {factors}\n{_no_penalties()}"
        )
        # It must not outlive the tests, not even killed ones.
        words = ["setpriv", "--pdeathsig", "TERM", "/usr/sbin/sshd", "-D", "-e", *self._options]
        words += ["-f", str(self.configuration)]
        with self._log.open("wb") as log:
            server = subprocess.Popen(self.mounts.command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: "Server listening" in self._log.read_text() or server.poll() is not None, "sshd to listen")
        return server if server.poll() is None else None


@functools.cache
def _no_penalties() -> str:
    """Return the line for OpenSSH 9.8 and later, which otherwise turns away a client that was refused often."""
    said = subprocess.run(["/usr/bin/ssh", "-V"], check=True, capture_output=True, text=True).stderr
    version = re.match(r"OpenSSH_(\d+)\.(\d+)", said)
    assert version is not None, said
    return "PerSourcePenalties no\n" if (int(version[1]), int(version[2])) >= (9, 8) else ""


def _wait_for_output(terminal: pexpect.spawn[str]) -> None:
    """Wait until the program shows something, or has ended. While nobody has the other end open, a reader would get an
    early end.
    """
    output = select.poll()
    output.register(terminal.child_fd, select.POLLIN)

    def is_there() -> bool:
        return any(events & select.POLLIN for _, events in output.poll(0)) or not terminal.isalive()

    wait_until(is_there, "the program shows something")


def _heed_hang_up() -> None:
    # nohup ignores SIGHUP. login would then go on with a closed terminal.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _as_person(person: Person, environment: dict[str, str]) -> list[str]:
    # In the person's home, as after a login. nsenter has changed to the root directory.
    place = [f"--chdir={person.home}", *(f"{name}={value}" for name, value in environment.items())]
    return [*person.identity, "env", *place]


def free_port() -> int:
    """Return a TCP port that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
