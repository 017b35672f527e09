"""What `softtoken-admin doctor` says of signatures at sudo. The real sudo shows each fault, and what advice does."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from pam_softtoken.account import signers
from pam_softtoken.admin.doctor.root_ways_check import RULE
from pam_softtoken.admin.doctor.sign_check import why_unsuitable
from tests.support import tools
from tests.support.account import Person
from tests.support.doctor import Found, found_in, steps
from tests.support.installation import Installation
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until
from tests.support.signed_sudo import Laptop
from tests.support.sudo_signing import OURS, SIGNERS, SigningSudo

CONF = "/etc/sudo.conf"
POLKIT = "/usr/lib/polkit-1/polkitd"
# What the cures change must not be the machine's.
_OVERLAY = """
mkdir "$1/over"
mount -t tmpfs -o mode=755 tmpfs "$1/over"
mkdir "$1/over/new" "$1/over/work"
mount -t overlay -o "lowerdir=/usr/bin,upperdir=$1/over/new,workdir=$1/over/work" overlay /usr/bin
"""


class Host:
    """A host whose sudo asks for signatures, with the real plugin, until a test breaks something.

    Args:
        mounts: the namespace.
        installed: the installation whose plugin and programs it runs.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation) -> None:
        self.sudo = SigningSudo(mounts)
        self._mounts = mounts
        self._installed = installed
        self.approver = mounts.directory / "bin" / "softtoken-approver"
        self.approver.parent.mkdir()
        shutil.copy(installed.root / "scripts" / "softtoken-approver", self.approver)
        (mounts.directory / "pam_softtoken").symlink_to(installed.package)
        shutil.copy(installed.root / "build" / "softtoken_approval.so", self.sudo.plugin)
        self.sudo.allow("ALL ALL=(ALL:ALL) NOPASSWD: ALL")
        self.run("mkdir", "-m", "711", SIGNERS)
        self.run("sh", "-euc", _OVERLAY, "sh", str(mounts.directory))
        self.set_lines(self.line())

    def line(self, *options: str) -> str:
        return " ".join(["Plugin softtoken_approval softtoken_approval.so", f"approver={self.approver}", *options])

    def set_lines(self, *lines: str) -> None:
        self.sudo.conf.write_text("".join(f"{line}\n" for line in lines))

    def enrol(self, person: Person) -> None:
        """Write a token, as softtoken-enroll does."""
        directory = self.path(signers.uid_mark(person.uid))
        directory.mkdir(mode=0o700)
        tokens = directory / "tokens"
        tokens.write_bytes(signers.serialise((Laptop().token,), owner=(person.name, person.uid)))
        tokens.chmod(0o600)
        self.path(signers.name_mark(person.name)).touch(0o600)

    def path(self, name: str) -> Path:
        return self._mounts.path(name)

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs a command there as root."""
        return self._mounts.command(*words)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command there as root."""
        path = f"PATH=/usr/sbin:/usr/bin:/sbin:/bin:{self._installed.root}/scripts"
        return subprocess.run(
            self.command("env", path, *words),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def examine(self) -> Found:
        """Return what the doctor finds about signatures."""
        found = found_in(self.run("softtoken-admin", "doctor", "--json"))
        assert not [each for each in found.not_looked_at if each.startswith("signatures")], found
        return found._replace(findings=[each for each in found.findings if each["family"] == "signatures"])

    def mend(self, finding: dict[str, Any]) -> Found:
        """Follow the advice, and return what the doctor finds then."""
        for step in steps(finding["mend"]):
            done = self.run(*step)
            assert done.returncode == 0, (finding, done.stderr)
        after = self.examine()
        assert (finding["place"], finding["what"]) not in {(each["place"], each["what"]) for each in after.findings}
        return after


@pytest.fixture
def signer(alice: Person) -> Person:
    """A user who has a token that signs, once `host` is there."""
    return alice


@pytest.fixture
def bob(make_person: Callable[[], Person]) -> Person:
    """A user without a token. Ask for this before `host`."""
    return make_person()


@pytest.fixture
def host(mounts: PrivateMounts, installed: Installation, signer: Person) -> Host:
    host = Host(mounts, installed)
    host.enrol(signer)
    return host


def said(host: Host, person: Person) -> str:
    """Return what sudo says to a command that nobody can be asked about; "ran" if it ran."""
    done = host.sudo.run("-n", "echo", "ran", user=person.name)
    return done.stdout.strip() or done.stderr


def test_signing__sound_host_is_sound(host: Host, signer: Person) -> None:
    assert "a signature is required" in said(host, signer)
    assert host.examine().worse_than_notes() == []


def test_plugin__missing_stops_sudo_until_mended(host: Host, signer: Person) -> None:
    host.sudo.plugin.unlink()
    assert "unable to load" in said(host, signer)
    finding = host.examine().only(f"{CONF}:1", "is missing")
    assert finding["severity"] == "error"
    assert finding["line"] == host.line()
    after = host.mend(finding)
    assert said(host, signer) == "ran"
    note = after.only(SIGNERS, "sudo asks nobody")
    assert (note["severity"], note["mend"]) == ("note", "softtoken-admin enable sudo --sign")


def test_plugin__open_to_others_is_named_with_each_directory(host: Host) -> None:
    host.sudo.plugin.chmod(0o666)
    host.sudo.plugin.parent.chmod(0o777)
    found = host.examine()
    for path in (OURS, str(Path(OURS).parent)):
        assert found.only(path, "can write it")["severity"] == "error"
    host.mend(found.only(str(Path(OURS).parent), "can write it"))
    assert host.mend(found.only(OURS, "can write it")).worse_than_notes() == []


def test_line__with_another_symbol_stops_sudo_until_mended(host: Host, signer: Person) -> None:
    host.set_lines("Debug sudo /var/log/sudo.debug all@err", "Plugin softtoken softtoken_approval.so")
    assert "unable to find symbol" in said(host, signer)
    host.mend(host.examine().only(f"{CONF}:2", "starts for nobody"))
    assert said(host, signer) == "ran"


def test_line__that_is_there_twice_makes_sudo_complain_until_mended(host: Host, signer: Person) -> None:
    host.set_lines("# first", host.line(), "Plugin softtoken_approval \\", "softtoken_approval.so required")
    assert "ignoring duplicate plugin" in said(host, signer)
    found = host.examine()
    assert not [each for each in found.findings if "everybody has to sign" in each["what"]]
    assert host.mend(found.only(f"{CONF}:3", "earlier line")).worse_than_notes() == []
    assert host.sudo.conf.read_text() == f"# first\n{host.line()}\n"
    assert "ignoring" not in said(host, signer)


@pytest.mark.parametrize("how", ["mode", "owner"])
def test_conf__that_sudo_ignores_asks_nobody_until_mended(host: Host, signer: Person, how: str) -> None:
    if how == "mode":
        host.sudo.conf.chmod(0o666)
    else:
        shutil.chown(host.sudo.conf, signer.uid)
    assert said(host, signer) == "ran"
    finding = host.examine().only(CONF, "sudo ignores this file")
    assert finding["severity"] == "error"
    assert host.mend(finding).worse_than_notes() == []
    assert "a signature is required" in said(host, signer)


def test_directory__missing_refuses_everybody_until_mended(host: Host, signer: Person) -> None:
    shutil.rmtree(host.path(SIGNERS))
    assert "cannot be checked" in said(host, signer)
    assert host.mend(host.examine().only(SIGNERS, "refuses everybody but root")).worse_than_notes() == []
    assert said(host, signer) == "ran"


def test_approver__missing_or_open_to_others(host: Host, signer: Person) -> None:
    host.approver.chmod(0o777)
    found = host.examine()
    assert host.mend(found.only(str(host.approver), "can write it")).worse_than_notes() == []
    host.approver.unlink()
    assert "cannot be checked" in said(host, signer)
    assert host.examine().only(str(host.approver), "is not there")["severity"] == "error"


def test_marks__that_are_not_whole_are_named(host: Host, signer: Person) -> None:
    place = signers.uid_mark(signer.uid)
    host.path(signers.name_mark(signer.name)).unlink()
    finding = host.examine().only(place, "has no mark by name")
    assert host.mend(finding).worse_than_notes() == []
    (host.path(place) / "tokens").unlink()
    assert "a signature is required" in said(host, signer)
    finding = host.examine().only(place, "no signing token")
    assert finding["severity"] == "warning"
    assert finding["mend"] == f"softtoken-enroll --sign --user {signer.name}"
    shutil.rmtree(host.path(place))
    assert "a signature is required" in said(host, signer)
    assert host.examine().only(place, "no signing token")["mend"] == finding["mend"]


def test_tokens__open_to_others_are_refused_until_mended(host: Host, signer: Person) -> None:
    place = signers.uid_mark(signer.uid)
    (host.path(place) / "tokens").chmod(0o644)
    assert host.mend(host.examine().only(place, "is open to others")).worse_than_notes() == []


def test_tokens__of_another_user_are_taken_over_only_revoked(host: Host, signer: Person) -> None:
    place = signers.uid_mark(signer.uid)
    shutil.chown(host.path(place), signer.uid)
    finding = host.examine().only(place, signer.name)
    assert "revoke" in finding["mend"]
    host.run("sh", "-euc", f"{finding['mend']} --yes")
    assert [each["severity"] for each in host.examine().findings if each["place"] == place] == ["note"]
    assert '"signers": []' in (host.path(place) / "tokens").read_text()


def test_tokens__of_a_changed_account_name_the_command_that_hands_them_over(host: Host, signer: Person) -> None:
    place = signers.uid_mark(signer.uid)
    tokens = host.path(place) / "tokens"
    tokens.write_text(tokens.read_text().replace(signer.name, "formername"))
    finding = host.examine().only(place, "formername")
    assert finding["mend"] == f"softtoken-admin rebind {signer.name} --old-name formername"
    assert host.run("sh", "-euc", f"{finding['mend']} --yes").returncode == 0
    assert host.examine().worse_than_notes() == []


def test_required__names_those_whom_sudo_refuses(bob: Person, host: Host, signer: Person) -> None:
    host.sudo.allow(f"{signer.name} ALL=(ALL) NOPASSWD: ALL", f"{bob.name} ALL=(ALL) NOPASSWD: ALL")
    host.set_lines(host.line("required"))
    assert "a signature is required" in said(host, bob)
    found = host.examine()
    (finding,) = [each for each in found.findings if "everybody has to sign" in each["what"]]
    assert finding["what"].startswith(f"sudo refuses {bob.name}:")
    assert finding["mend"] == f"softtoken-enroll --sign --user {bob.name}"
    host.enrol(bob)
    assert host.examine().worse_than_notes() == []


def test_su__gives_root_without_a_signature_until_mended(host: Host, signer: Person, mounts: PrivateMounts) -> None:
    shadow = mounts.directory / "etc" / "shadow"
    shadow.write_text(re.sub(r"^root:[^:]*:", "root:$y$j9T$abc$def:", shadow.read_text(), flags=re.MULTILINE))
    permit = "".join(f"{kind} required pam_permit.so\n" for kind in ("auth", "account", "session"))
    mounts.set_service("su", permit)  # in place of the right password
    become = ("setpriv", f"--reuid={signer.uid}", "--clear-groups", "su", "-c", "id -u")
    assert host.run(*become).stdout == "0\n"
    finding = host.examine().only("/usr/bin/su", "without a signature")
    assert finding["severity"] == "note"
    host.mend(finding)
    assert host.run(*become).stdout != "0\n"


def test_doas__is_named_where_it_permits_something(host: Host, mounts: PrivateMounts) -> None:
    host.run("sh", "-euc", "cp /usr/bin/true /usr/bin/doas; chmod 4755 /usr/bin/doas")
    conf = mounts.directory / "etc" / "doas.conf"
    conf.write_text("# permit :wheel\n")
    assert not [each for each in host.examine().findings if "doas" in each["what"]]
    conf.write_text("permit persist :wheel\n")
    finding = host.examine().only("/usr/bin/doas", "without a signature")
    assert finding["line"] == "permit persist :wheel"
    host.mend(finding)


_ASK_POLKIT = """
pkttyagent --process $$ &
until pkcheck --process $$ --action-id org.freedesktop.policykit.exec --allow-user-interaction; do :; done
"""


def whom_polkit_asks(host: Host, person: Person) -> str:
    """Return whose password the real polkitd asks for when a person wants to be root with pkexec."""
    host.run("mkdir", "-p", "/run/dbus", "/run/polkit-1")
    daemons = []
    try:
        for words in (("dbus-daemon", "--system", "--nofork"), (POLKIT, "--no-debug")):
            daemons.append(subprocess.Popen(host.command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            wait_until(lambda: host.path("/run/dbus/system_bus_socket").exists(), "the bus")
        identity = ("setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", "--clear-groups")
        command = host.command(*identity, "sh", "-c", _ASK_POLKIT)
        terminal = pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=60)
        try:
            terminal.expect(r"Authenticating as: (\S+)")
            assert isinstance(terminal.match, re.Match)
            return str(terminal.match[1])
        finally:
            terminal.close(force=True)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)
        host.path("/run/dbus/system_bus_socket").unlink(missing_ok=True)
        host.path("/run/dbus/pid").unlink(missing_ok=True)


@tools.needs(POLKIT, "dbus-daemon", "pkttyagent")
def test_polkit__asks_for_the_users_password_until_mended(host: Host, signer: Person, mounts: PrivateMounts) -> None:
    rules = mounts.directory / "etc" / "polkit-1" / "rules.d"
    shutil.rmtree(rules, ignore_errors=True)
    rules.mkdir(parents=True)
    (rules / "40-ours.rules").write_text(
        '// polkit.addAdminRule(function() { return ["unix-user:nobody"]; });\n'
        f'polkit.addAdminRule(function(action, subject) {{ return ["unix-user:{signer.name}"]; }});\n'
    )
    for directory in (rules, rules.parent):
        directory.chmod(0o755)
    assert whom_polkit_asks(host, signer) == signer.name
    finding = host.examine().only(POLKIT, f"unix-user:{signer.name}")
    assert finding["severity"] == "note"
    assert "nobody" not in finding["what"]
    host.mend(finding)
    assert whom_polkit_asks(host, signer) == "root"
    assert (rules / "00-softtoken-sign.rules").read_text() == f"{RULE}\n"


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("Sudo version 1.9.13p3", ""),
        ("Sudo version 1.9.0", ""),
        ("Sudo version 2.0", ""),
        ("Sudo version 1.8.31p2", "has no approval plugins"),
        ("sudo-rs 0.2.5", "nobody is asked"),
        ("", ""),
    ],
)
def test_sudo__without_approval_plugins_is_named(version: str, words: str) -> None:
    assert words in why_unsuitable(version)
    assert bool(words) == bool(why_unsuitable(version))
