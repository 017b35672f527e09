"""Run the demonstration of a realm: three nodes of etcd, two hosts with a real sshd, one enrolment. Each code works
once, the leading node dies, and a revocation ends everything at once. Each step is checked. Nothing stays.

All machines are namespaces; their users, files and processes exist nowhere else. See `fleet_machines`.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pexpect

sys.path.insert(0, str(Path(__file__).parent))
from demo import PERIOD_S, PROMPT, Failed, Laptop, announce, copy_product, indented
from fleet_machines import Machine, MachineError, Network
from fleet_realm import FleetRealm

HOSTS = ("web1", "web2")
_STEP_TIMEOUT_S = 120
"""A machine that is busy with other work may need long. A step that hangs ends the demonstration."""
_PATIENT = "timeout=30"
"""An option of the module. A leader is chosen within a second or two, but a busy machine needs longer."""
_SSHD = """\
HostKey /etc/ssh/demo_key
PidFile none
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication yes
PubkeyAuthentication no
PermitRootLogin no
PrintMotd no
PrintLastLog no
UseDNS no
"""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Scene:
    """The machines, and everything on them.

    Args:
        directory: a new one, that everybody can enter.
    """

    def __init__(self, directory: Path) -> None:
        self.user = f"demo{secrets.token_hex(2)}"
        self.password = secrets.token_urlsafe(9)
        self.product = directory / "product"
        copy_product(self.product)
        self.network = Network(directory)
        self.realm: FleetRealm
        self.hosts: dict[str, Machine] = {}
        self.client: Machine

    def set_up_realm(self) -> None:
        """Create the nodes and the realm."""
        self.realm = FleetRealm(self.network, self.product, "demo")
        self._add_user(self.realm.desk, 1)

    def set_up_hosts(self) -> str:
        """Create the hosts, each with an sshd, and the laptop. Return what the commands said."""
        said = ""
        known = ""
        for number, name in enumerate(HOSTS, 2):
            host = self.network.add(name)
            self.hosts[name] = host
            self._add_user(host, number)
            said += self.realm.join(host)
            backend = self.product / "scripts/softtoken-backend"
            line = f"auth required {self.product}/build/pam_softtoken.so backend={backend} {_PATIENT}\n"
            stack = f"auth required pam_unix.so nodelay\n{line}account required pam_unix.so\n"
            host.write("/etc/pam.d/sshd", f"{stack}session required pam_permit.so\n")
            host.write("/etc/ssh/sshd_config", _SSHD)
            host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/demo_key")
            known += f"{name} {host.path('/etc/ssh/demo_key.pub').read_text()}"
            host.run("/usr/sbin/sshd", "-f", "/etc/ssh/sshd_config")
        self.client = self.network.add("laptop")
        self.client.write("/home/known_hosts", known)
        return said

    def _add_user(self, machine: Machine, number: int) -> None:
        """Add the user. The hosts give the same person different uids, as hosts do."""
        used = {entry.pw_uid for entry in pwd.getpwall()}
        uid = [uid for uid in range(59000, 1000, -1) if uid not in used][number]
        machine.run("useradd", "--create-home", "--uid", str(uid), "--shell", "/bin/sh", self.user)
        machine.run("chpasswd", text=f"{self.user}:{self.password}\n")


class Story:
    """What happens in the realm, and how it must end.

    Args:
        scene: the machines.
        laptop: the soft token.
    """

    def __init__(self, scene: Scene, laptop: Laptop) -> None:
        self.scene = scene
        self.laptop = laptop
        self.code = ""
        self.recovery_code = ""

    def tell(self) -> None:
        """Run the whole story."""
        scene, (first, second) = self.scene, HOSTS
        announce("Make a realm: its keys, three nodes of etcd, its rights")
        scene.set_up_realm()
        print(indented("\n".join(scene.realm.said)))
        announce("Two hosts join it")
        print(indented(scene.set_up_hosts()))
        self._enrol()
        self._log_in(first, self._next_code(), "accepted", "Log in to the first host with the next code")
        self._log_in(second, self.code, "replayed", "The same code on the second host")
        self._log_in(second, self._next_code(), "accepted", "The next code on the second host")
        self._log_in(first, self.code, "replayed", "That code on the first host")
        self._log_in(first, self.recovery_code, "recovery", "A recovery code on the first host")
        self._log_in(second, self.recovery_code, "replayed", "The same recovery code on the second host")
        self._kill_the_leader()
        self._log_in(second, self._next_code(), "accepted", "Its owner still gets in")
        self._log_in(first, self.code, "replayed", "That code on the first host, without the node that led")
        announce("Revoke the tokens of the user, in the realm")
        print(indented(scene.realm.fleet("revoke", scene.user)))
        self._next_code()
        for name in HOSTS:
            self._log_in(name, self.code, "not_enrolled", f"A new code on {name}")

    def _enrol(self) -> None:
        announce("The desk joins as an enrolment host, and enrols the user for all hosts")
        realm = self.scene.realm
        print(indented(realm.join(realm.desk, enrols=True)))
        options = ("--no-confirm", "--json", "--qr=none", f"--period={PERIOD_S}", "--recovery-codes=2")
        made = json.loads(realm.desk.run(realm.enroll, "--user", self.scene.user, *options))
        self.recovery_code = made["recovery_codes"][0]
        self.laptop.add(made["uri"], "demo")
        self.code = self.laptop.softtoken("code", "demo")  # it may have been shown before the enrolment, so it is used
        print(indented(f"[desk]# softtoken-enroll --user {self.scene.user}"))
        print(indented(realm.fleet("status")))

    def _kill_the_leader(self) -> None:
        announce("The node that leads is killed")
        leader = self.scene.realm.leader()
        leader.kill()
        if self.scene.realm.status_of(leader):
            raise Failed(f"{leader.machine.name} still answers")
        print(indented(f"{leader.machine.name} is dead"))

    def _log_in(self, name: str, code: str, reason: str, what: str) -> None:
        """Log in over ssh, and check the end of it and what the host has logged."""
        announce(what)
        host, user = self.scene.hosts[name], self.scene.user
        host.log.take()
        words = "ssh -F none -o UserKnownHostsFile=/home/known_hosts -o StrictHostKeyChecking=yes"
        words += " -o PubkeyAuthentication=no -o NumberOfPasswordPrompts=1"
        command = self.scene.client.command(*words.split(), f"{user}@{name}", "hostname")
        screen = pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=_STEP_TIMEOUT_S)
        screen.expect("(?i)password.*: ")
        screen.sendline(self.scene.password)
        if screen.expect_exact([PROMPT, pexpect.EOF]) == 1:
            seen = indented("\n".join((screen.before or "", *host.log.take())))
            raise Failed(f"{what}: no code was asked for:\n{seen}")
        screen.sendline(code)
        ended = screen.expect([pexpect.EOF, PROMPT, "(?i)password.*: "]) == 0
        shown = (screen.before or "").strip()
        screen.close(force=True)
        got_in = ended and screen.exitstatus == 0 and name in shown.split()
        logged = [line[line.index("pam_softtoken(") :] for line in host.log.take() if " result=" in line]
        print(indented(f"[laptop]$ ssh {user}@{name} hostname\nPassword: ********\n{PROMPT}{code}\n{shown}"))
        print(indented("\n".join(f"[{name}] {line}" for line in logged)))
        expected = "let in" if reason in ("accepted", "recovery") else "refused"
        reasons = [word.removeprefix("reason=") for line in logged for word in line.split() if "reason=" in word]
        if got_in is not (expected == "let in") or reasons != [reason]:
            found = f"{'let in' if got_in else 'refused'}, reason {', '.join(reasons) or 'none'}"
            raise Failed(f"{what}: expected {expected}, reason {reason}; found {found}")
        print(f"  ok: {expected}")

    def _next_code(self) -> str:
        self.code = self.laptop.next_code("demo", self.code)
        return self.code


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    # One signal is enough. The cleanup must not be interrupted.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Run the demonstration. Return 0 if every check passed."""
    os.umask(0o022)
    sys.stdout.reconfigure(line_buffering=True)  # an error comes after the lines that led to it, even through a pipe
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    directory = Path(tempfile.mkdtemp(prefix="softtoken-demo-"))
    scene = None
    try:
        directory.chmod(0o755)
        scene = Scene(directory)
        Story(scene, Laptop(scene.product / "scripts/softtoken", directory / "vault")).tell()
    except (Failed, MachineError, pexpect.ExceptionPexpect, subprocess.CalledProcessError) as error:
        print(f"scripts/demo: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scripts/demo: interrupted", file=sys.stderr)
        return 130
    finally:
        if scene is not None:
            scene.network.close()
        shutil.rmtree(directory)
    print("\nEverything went as it should. Only the packages that it needed and build/ are left.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
