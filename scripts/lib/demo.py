"""Run the demonstration: enrol, log in over a real sshd, see a refusal, use sudo, sign a command. Each step is checked.
Nothing stays.

The codes come from `softtoken`, as on the user's own laptop. It knows only the picture of the QR code.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pexpect

sys.path.insert(0, str(Path(__file__).parent))
import demo_signing
import own_sshd
import session_picture

TREE = Path(__file__).resolve().parents[2]
STEP_TIMEOUT_S = 20
PERIOD_S = 10  # a third of the usual period, so that the next code comes soon
_PRIVILEGE_SEPARATION = Path("/run/sshd")  # sshd needs it, and a machine without a running sshd lacks it
_RECORDS = Path("/var/lib/softtoken")
PROMPT = "Verification code: "
PICTURED_LINES = 10
"""Of two logins: the first is let in, the second is refused."""


class Failed(Exception):
    """A step did not go as it should."""


class Stage:
    """Everything that the demonstration creates on the machine, and removes again."""

    def __init__(self) -> None:
        self.user = f"demo{secrets.token_hex(2)}"
        self.password = secrets.token_urlsafe(9)
        self.service = f"softtoken-{self.user}"
        self.root = Path(tempfile.mkdtemp(prefix="softtoken-demo-"))
        self.root.chmod(0o755)
        self.product = self.root / "product"
        self.port = _free_port()
        self.sshd: subprocess.Popen[bytes] | None = None
        self._files: list[Path] = []
        self._directories: list[Path] = []
        self._had_records = _RECORDS.exists()

    def set_up(self) -> None:
        """Create the user, the PAM services, the sudo rule and the sshd, all with their own names."""
        _run("useradd", "--create-home", "--home-dir", str(self.root / "home"), "--shell", "/bin/sh", self.user)
        _run("chpasswd", text=f"{self.user}:{self.password}\n")
        copy_product(self.product)
        # First the password, then the code. If one fails, the login fails.
        stack = f"auth required pam_unix.so nodelay\n{self._module_line()}account required pam_unix.so\n"
        self._write(Path("/etc/pam.d") / self.service, stack + "session required pam_permit.so\n")
        self._write(
            Path("/etc/sudoers.d") / self.service,
            f"Defaults:{self.user} pam_service={self.service}, pam_login_service={self.service}, timestamp_timeout=0\n"
            f"{self.user} ALL=(root) /usr/bin/id\n"
            f"{self.user} ALL=(root) NOPASSWD: /usr/bin/id -u, /usr/bin/id -g\n",
            mode=0o440,
        )
        self._start_sshd()

    def take_down(self) -> None:
        """Remove everything."""
        if self.sshd is not None:
            self.sshd.terminate()
            self.sshd.wait(10)
        subprocess.run(["pkill", "-KILL", "-u", self.user], check=False)
        words = ["forget", self.user, "--uid", str(self._uid()), "--yes"]
        subprocess.run(["userdel", "--force", "--remove", self.user], check=False, capture_output=True)
        # What root keeps of those who have logged in with a code.
        program = str(self.product / "scripts" / "softtoken-admin")
        subprocess.run([program, *words], check=False, capture_output=True)
        if not self._had_records:
            for directory in (*_RECORDS.glob("*"), *_RECORDS.parent.glob(_RECORDS.name)):
                with contextlib.suppress(OSError):
                    directory.rmdir()
        for path in self._files:
            path.unlink(missing_ok=True)
        for path in self._directories:
            path.rmdir()
        shutil.rmtree(self.root)

    def is_asking(self) -> bool:
        """Check whether a process runs the demonstration's own backend. Another stack may show the same prompt."""
        backend = os.fsencode(self.product / "scripts" / "softtoken-backend")
        for record in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if backend in record.read_bytes().split(b"\0"):
                    return True
        return False

    def _uid(self) -> int:
        """Return the uid of the demonstration's user, -1 before there is one."""
        try:
            return pwd.getpwnam(self.user).pw_uid
        except KeyError:
            return -1

    def _module_line(self) -> str:
        backend = self.product / "scripts" / "softtoken-backend"
        return f"auth required {self.product}/build/pam_softtoken.so backend={backend}\n"

    def _write(self, path: Path, text: str, mode: int = 0o644) -> None:
        self._files.append(path)
        path.write_text(text)
        path.chmod(mode)

    def _start_sshd(self) -> None:
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / "host_key"))
        known = (self.root / "host_key.pub").read_text()
        (self.root / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {known}")
        if not _PRIVILEGE_SEPARATION.exists():
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
            self._directories.append(_PRIVILEGE_SEPARATION)
        program, own_service = own_sshd.with_service(self.service, self.root, self.root / "host_key")
        config = self.root / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.root}/host_key\nPidFile none\nUsePAM yes\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication yes\nPermitRootLogin no\n"
            f"AllowUsers {self.user}\nPrintMotd no\nPrintLastLog no\n{own_service}"
        )
        self.sshd = subprocess.Popen([program, "-D", "-f", config], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while not _is_listening(self.port):
            if time.monotonic() > deadline or self.sshd.poll() is not None:
                raise Failed("sshd does not start")
            time.sleep(0.05)


def copy_product(product: Path) -> None:
    """Copy the files of a login to a place that only root can write. The source tree may belong to any user."""
    for name in ("pam_softtoken", "scripts", "build/pam_softtoken.so", "build/softtoken_approval.so"):
        source, target = TREE / name, product / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    for path in (product, *product.rglob("*")):
        os.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


class Laptop:
    """The user's own device, with `softtoken` on it.

    Args:
        program: `softtoken`.
        directory: what the device keeps. It is created.
    """

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._passphrase = directory / "passphrase"
        self._environment = {**os.environ, "XDG_DATA_HOME": str(directory), "LC_ALL": "C.UTF-8"}
        directory.mkdir(mode=0o700)
        self._passphrase.write_text(secrets.token_urlsafe(9) + "\n")

    def softtoken(self, *words: str, picture: Path | int | None = None) -> str:
        """Run it and return its output. A picture, or a descriptor, comes as stdin: root reads nothing in a user's
        directory.
        """
        with self._passphrase.open() as passphrase, open(os.devnull if picture is None else picture, "rb") as shown:
            given = passphrase.fileno()
            command = [str(self._program), *words, "--passphrase-fd", str(given)]
            done = subprocess.run(
                command,
                env=self._environment,
                capture_output=True,
                text=True,
                check=False,
                pass_fds=[given],
                stdin=shown,
            )
        if done.returncode != 0:
            raise Failed(f"softtoken {words[0]} failed:\n{done.stderr}")
        return done.stdout.strip() or done.stderr.strip()

    def add(self, uri: str, name: str = "demo-sign") -> None:
        """Add a Key URI to the vault."""
        read, write = os.pipe()
        os.write(write, f"{uri}\n".encode())
        os.close(write)
        self.softtoken("add", "--name", name, picture=read)

    def next_code(self, name: str, last: str) -> str:
        """Return a code other than the last one. Wait for it if necessary."""
        deadline = time.monotonic() + PERIOD_S + STEP_TIMEOUT_S
        while (code := self.softtoken("code", name)) == last:
            if time.monotonic() > deadline:
                raise Failed("softtoken shows no other code")
            for left_s in range(PERIOD_S - int(time.time()) % PERIOD_S, 0, -1):
                if sys.stdout.isatty():
                    print(f"\r  waiting for the next code: {left_s:2} s ", end="", flush=True)
                time.sleep(1)
        if sys.stdout.isatty():
            print("\r" + " " * 40 + "\r", end="")
        return code

    def sign(self, request: str) -> tuple[str, str]:
        """Sign a request. Return the code, and what the laptop showed."""
        screen = _spawn(f"{self._program} sign", env=self._environment)
        screen.expect_exact("Passphrase of the vault: ")
        screen.sendline(self._passphrase.read_text().strip())
        screen.expect_exact("Request: ")
        screen.sendline(request)
        screen.expect_exact("Sign it? [y/N] ")
        shown = "\n".join((screen.before or "").splitlines()[1:])
        screen.sendline("y")
        screen.expect(pexpect.EOF)
        found = demo_signing.CODE.search(screen.before or "")
        if found is None:
            raise Failed(f"the laptop did not sign:\n{shown}{screen.before}")
        return found[1], f"{shown}\nSign it? [y/N] y\n{found[1]}"


class Story:
    """The user: has a laptop, answers the questions, checks the results."""

    _AS_USER = "setpriv --reuid={0} --regid={0} --init-groups --reset-env"

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.laptop = Laptop(stage.product / "scripts" / "softtoken", stage.root / "laptop")
        self.key = ""
        self.recovery_code = ""
        self.last_code = ""
        self.session: list[str] = []
        """What a picture of the session shows: both logins over ssh, line by line."""

    def tell(self) -> None:
        """Run the whole story."""
        self._enrol()
        code = self._next_code()
        self._ssh(code, "in", "Log in over ssh with the password and the next code")
        self._ssh(code, "refused", "The same code a second time")
        self._ssh(self._wrong_code(), "refused", "A wrong code")
        self._ssh(self.recovery_code.lower().replace("-", " "), "in", "A recovery code, typed carelessly", note="left")
        self._ssh(self.recovery_code, "refused", "The same recovery code a second time")
        self._sudo(self._next_code(), "in", "sudo with the password and a code")
        self._sudo(self.last_code, "refused", "sudo with the code that has just been used")
        self._signatures()

    def _signatures(self) -> None:
        """Sign one command at sudo, and try its signature for another."""
        host = demo_signing.Host(self.stage.product, self.stage.root)
        try:
            announce("Enrol a token that signs commands, on the laptop")
            program = host.command(str(self.stage.product / "scripts" / "softtoken-enroll"))
            print(indented(demo_signing.enrol(_spawn, program, self.stage.user, self.laptop)))
            as_user = host.command(self._AS_USER.format(self.stage.user))
            announce("sudo shows a command, and the laptop signs it")
            screen, shown, request = demo_signing.ask(_spawn, f"{as_user} sudo id -u")
            code, seen = self.laptop.sign(request)
            print(indented(f"{shown}\n[laptop]$ softtoken sign\n{seen}\nCode: {code}"))
            self._signed(screen, code, "0", "in")
            announce("The signature of one command, typed for another that waits at the same time")
            screen, _, request = demo_signing.ask(_spawn, f"{as_user} sudo id -u")
            other, shown, _ = demo_signing.ask(_spawn, f"{as_user} sudo id -g")
            code, _ = self.laptop.sign(request)
            print(indented(f"{shown}\nCode: {code}"))
            self._signed(other, code, "0", "refused")
            self._signed(screen, code, "0", "in")
        finally:
            host.close()

    def _signed(self, screen: pexpect.spawn[str], code: str, result: str, expected: str) -> None:
        """Type a signature, and check whether the command runs."""
        screen.sendline(code)
        screen.expect(pexpect.EOF)
        shown = (screen.before or "").strip().splitlines()
        screen.close()
        print(indented("\n".join(shown[1:])))
        ran = screen.exitstatus == 0 and shown[-1] == result
        if ran is not (expected == "in") or (not ran and "softtoken: not signed" not in shown):
            raise Failed(f"a signed command: expected {expected}")
        print(f"  ok: {'it ran' if ran else 'refused'}")

    def _enrol(self) -> None:
        announce("Enrol: scan the QR code with the soft token, confirm it by a code, keep the recovery codes")
        program = self.stage.product / "scripts" / "softtoken-enroll"
        picture = self.stage.root / "home" / "qr.png"
        command = f"{self._AS_USER.format(self.stage.user)} {program} --period {PERIOD_S} --png {picture}"
        screen = pexpect.spawn(command, encoding="utf-8", timeout=STEP_TIMEOUT_S, dimensions=(60, 100))
        screen.expect("Code that the app shows:")
        shown = screen.before or ""
        found = re.search(r"Key:  ([A-Z2-7 ]+)", shown)
        if found is None:
            raise Failed(f"no key was shown:\n{shown}")
        self.key = found[1].replace(" ", "").strip()
        added = self.laptop.softtoken("add", "--image", "-", "--name", "demo", picture=picture)
        screen.sendline(self._next_code())
        screen.expect("Press Enter when you have them:")
        codes = re.findall(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}", screen.before or "")
        confirmed = screen.before or ""
        screen.sendline("")
        screen.expect(pexpect.EOF)
        screen.close()
        if screen.exitstatus != 0 or len(codes) != 10:
            raise Failed(f"enrolment failed:\n{shown}{confirmed}{screen.before}")
        self.recovery_code = codes[0]
        device = f"\n[laptop]$ softtoken add --image qr.png --name demo\n[laptop] {added}\n"
        device += f"[laptop]$ softtoken code demo\n[laptop] {self.last_code}\n\n"
        print(indented(shown + device + "Code that the app shows:" + confirmed + (screen.before or "")))

    def _ssh(self, code: str, expected: str, heading: str, note: str = "") -> None:
        stage = self.stage
        command = (
            f"ssh -F none -p {stage.port} -o UserKnownHostsFile={stage.root}/known_hosts -o StrictHostKeyChecking=yes"
            f" -o PubkeyAuthentication=no -o NumberOfPasswordPrompts=1 {stage.user}@127.0.0.1 id -un"
        )
        self._try(command, code, expected, heading, note=note)

    def _sudo(self, code: str, expected: str, heading: str) -> None:
        command = f"{self._AS_USER.format(self.stage.user)} sudo -k id -un"
        self._try(command, code, expected, heading)

    def _try(self, command: str, code: str, expected: str, heading: str, note: str = "") -> None:
        """Run a command that asks for a password and a code. Check whether it lets us in."""
        announce(heading)
        screen = pexpect.spawn(command, encoding="utf-8", timeout=STEP_TIMEOUT_S)
        screen.expect("(?i)password.*: ")
        screen.sendline(self.stage.password)
        if screen.expect_exact([PROMPT, pexpect.EOF]) == 1:
            shown = indented((screen.before or "").strip())
            raise Failed(f"{heading}: no code was asked for, so another PAM service has answered:\n{shown}")
        if not self.stage.is_asking():
            raise Failed(f"{heading}: another module than the demonstration's asks for the code")
        screen.sendline(code)
        index = screen.expect([pexpect.EOF, PROMPT, "(?i)password.*: "])
        shown = (screen.before or "").strip()
        screen.close(force=True)
        user = "root" if "sudo" in command else self.stage.user
        got_in = index == 0 and screen.exitstatus == 0 and user in shown.split()
        print(f"    Password: ********\n    {PROMPT}{code}")
        print(indented(shown or "(asked again)"))
        if command.startswith("ssh ") and len(self.session) < PICTURED_LINES:
            self.session += ["laptop$ ssh alice@server id -un", "Password:", f"{PROMPT}{code}", *self._pictured(shown)]
        if got_in is not (expected == "in") or note not in shown:
            raise Failed(f"{heading}: expected {expected}")
        print(f"  ok: {'let in' if got_in else 'refused'}")

    def _pictured(self, shown: str) -> list[str]:
        """Return what the server showed, with a name that is easier to read than that of the throw-away user."""
        return [
            line.strip().replace(f"{self.stage.user}@127.0.0.1", "alice@server").replace(self.stage.user, "alice")
            for line in shown.splitlines()
        ] + [""]

    def _next_code(self) -> str:
        """Read a code from the laptop that has not been shown yet. Wait for it if necessary."""
        self.last_code = self.laptop.next_code("demo", self.last_code)
        return self.last_code

    def _wrong_code(self) -> str:
        step = int(time.time()) // PERIOD_S
        right = {self._code_at(step + distance) for distance in range(-5, 6)}
        return next(code for code in ("000000", *(str(digit) * 6 for digit in range(1, 10))) if code not in right)

    def _code_at(self, step: int) -> str:
        # The key comes through stdin, not argv.
        command = [
            "oathtool",
            "--totp",
            "--base32",
            f"--time-step-size={PERIOD_S}s",
            "--now",
            f"@{step * PERIOD_S}",
            "-",
        ]
        return subprocess.run(command, input=self.key, check=True, capture_output=True, text=True).stdout.strip()


def _spawn(command: str, env: Any = None) -> pexpect.spawn[str]:
    """Start a program on a terminal that is wide enough for a request in one line."""
    return pexpect.spawn(command, env=env, encoding="utf-8", timeout=STEP_TIMEOUT_S, dimensions=(60, 3000))


def announce(text: str) -> None:
    """Show what comes next."""
    print(f"\n* {text}", flush=True)


def indented(text: str) -> str:
    """Return what a program showed, beside our own words."""
    return "\n".join(f"    {line.rstrip()}" for line in text.strip("\r\n").splitlines())


def _run(*command: str, text: str = "") -> None:
    subprocess.run(command, input=text, check=True, capture_output=True, text=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> int:
    """Run the demonstration. Return 0 if every check passed."""
    os.umask(0o022)
    sys.stdout.reconfigure(line_buffering=True)  # an error comes after the lines that led to it, even through a pipe
    stage = Stage()
    try:
        stage.set_up()
        story = Story(stage)
        story.tell()
        if len(sys.argv) == 3 and sys.argv[1] == "--picture":
            Path(sys.argv[2]).write_text(session_picture.drawn(story.session))
    except (Failed, pexpect.ExceptionPexpect, subprocess.CalledProcessError) as error:
        print(f"scripts/demo: error: {error}", file=sys.stderr)
        return 1
    finally:
        stage.take_down()
    print("\nEverything went as it should. Only the packages that it needed and build/ are left.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
