"""`softtoken-admin enable sudo --sign` and `disable sudo --sign` with the real sudo, and plugins of the tests."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator

import pexpect
import pytest

from tests.support.account import Person
from tests.support.enabling import CHANGES, LONG, SHORT, Admin
from tests.support.installation import Installation
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until
from tests.support.signed_sudo import APPROVER
from tests.support.sudo_confs import LINE
from tests.support.sudo_signing import CONF, NO, OURS, SIGNERS, YES, SigningSudo, build_own_plugin, build_plugin

REQUIRED_LINE = LINE.replace(".so", ".so required")
ASKED = "sudo asks for signatures now"
_SIGNED = """
import sys
sys.path.insert(0, sys.argv[1])
from pam_softtoken.login import login_note
login_note.confirm(login_note.SIGNING, sys.argv[2])
"""


def shown_on(screen: pexpect.spawn[str]) -> str:
    """Return what a terminal has shown."""
    assert isinstance(screen.logfile_read, io.StringIO)
    return screen.logfile_read.getvalue()


@pytest.fixture
def bob(make_person: Callable[[], Person]) -> Person:
    """Another user."""
    return make_person()


@pytest.fixture
def sudo(mounts: PrivateMounts, alice: Person, bob: Person) -> SigningSudo:
    """A sudo that alice and bob may use. Its plugin asks those whom ours would ask, and refuses them."""
    made = SigningSudo(mounts)
    made.allow(f"{alice.name} ALL=(ALL) NOPASSWD: ALL", f"{bob.name} ALL=(ALL) ALL")
    build_plugin(made.plugin, NO, asks=True)
    return made


@pytest.fixture
def admin(sudo: SigningSudo, mounts: PrivateMounts, installed: Installation) -> Iterator[Admin]:
    """Root at a terminal of that host."""
    made = Admin(mounts, installed)
    yield made
    made.kill_watchdogs()


def as_user(person: Person) -> tuple[str, ...]:
    """Return the words before a command that root runs for a user, through sudo."""
    return ("env", f"SUDO_USER={person.name}")


def enabled(admin: Admin, *words: str) -> pexpect.spawn[str]:
    """Start `enable` up to where it waits to be confirmed."""
    screen = admin.start("enable", "sudo", *(words or ("--sign",)), "--yes", LONG)
    screen.expect([ASKED, pexpect.EOF])
    assert screen.after == ASKED, screen.before
    return screen


def refused(admin: Admin, *words: str, around: tuple[str, ...] = ()) -> tuple[str, str]:
    """Run a command that must refuse. Return its error and its hint."""
    done = admin.run(*words, around=around)
    assert done.returncode == 1, done.stderr
    error, hint = done.stderr.splitlines()[-2:]
    return error.removeprefix("softtoken-admin: error: "), hint.removeprefix("softtoken-admin: hint: ")


def sign(admin: Admin, person: Person) -> None:
    """Do what the approver does after a user's signature was accepted."""
    admin.inside(sys.executable, "-c", _SIGNED, str(admin.installed.root), person.name)


def test_enable__adds_the_line_after_a_trial_and_disable_takes_it_out(
    admin: Admin, sudo: SigningSudo, alice: Person
) -> None:
    before = sudo.conf.read_bytes()
    sudo.enrol(alice, "laptop", "desk")
    screen = enabled(admin)
    assert sudo.conf.read_bytes() == before + LINE.encode()
    assert not sudo.works(alice.name)
    assert sudo.works()
    done = admin.run("confirm")
    assert done.stdout == "Done. sudo asks for signatures from now on.\n"
    screen.expect(pexpect.EOF)
    text = shown_on(screen)
    assert f"+{LINE.strip()}" in text
    assert f"sudo would ask for a signature: {alice.name} (laptop, desk)" in text
    assert "Tried: with the new line, sudo works for root, asks users with a signing token to sign, and asks" in text
    assert "Done. sudo asks for signatures from now on; softtoken-admin disable sudo --sign ends it." in text
    assert "action=enable user=all service=sudo-sign way=enrolled" in "\n".join(admin.mounts.log.lines)
    assert admin.mounts.path(SIGNERS).stat().st_mode & 0o7777 == 0o711
    done = admin.run("disable", "sudo", "--sign")
    assert done.returncode == 0, done.stderr
    assert f"-{LINE.strip()}" in done.stdout
    assert done.stdout.endswith("Done. sudo asks for no signatures any more.\n")
    assert sudo.conf.read_bytes() == before
    assert sudo.works(alice.name)
    assert admin.inside("ls", CHANGES) == ""
    assert not list(sudo.conf.parent.glob(".sudo.conf*"))
    again = admin.run("disable", "sudo", "--sign")
    assert (again.returncode, again.stderr) == (0, "sudo asks for no signatures.\n")


def test_enable__command_that_is_signed_confirms_it(admin: Admin, sudo: SigningSudo, alice: Person) -> None:
    build_own_plugin(sudo.plugin)
    (laptop,) = sudo.enrol(alice, "laptop")
    screen = enabled(admin, "--sign=required", "--force", "--user", alice.name)
    assert "asks users with a signing token to sign, and refuses the others" in shown_on(screen)
    assert "softtoken: a signature is required" in sudo.run("-n", "true", user=alice.name).stderr
    asking = sudo.ask(alice, "printf", "it%sran", "_")
    result = asking.answer(laptop.sign(asking.text))
    assert result.ran, result
    screen.expect("Done. sudo asks for signatures from now on")


def test_trial__approver_that_does_not_start_is_noticed(admin: Admin, sudo: SigningSudo, alice: Person) -> None:
    build_own_plugin(sudo.plugin)
    admin.inside("sh", "-euc", f"cp /dev/null $1; mount --bind $1 {APPROVER}", "sh", str(sudo.plugin.with_name("none")))
    error, _ = refused(admin, "enable", "sudo", "--sign")
    assert error.startswith("our plugin does not work: softtoken: the signature cannot be checked")


@pytest.mark.lockout("nobody signs a command after enable sudo --sign")
def test_enable__change_that_nobody_confirms_goes_back(admin: Admin, sudo: SigningSudo, alice: Person) -> None:
    before = sudo.conf.read_bytes()
    sudo.enrol(alice, "laptop")
    done = admin.run("enable", "sudo", "--sign", SHORT)
    assert done.returncode == 1
    assert ASKED in done.stderr
    assert 'the change of "sudo-sign" was not confirmed; everything is as it was before' in done.stderr
    assert sudo.conf.read_bytes() == before
    assert admin.inside("ls", CHANGES) == ""


def test_enable__signed_command_of_the_awaited_user_confirms(
    admin: Admin, sudo: SigningSudo, alice: Person, bob: Person
) -> None:
    sudo.enrol(alice, "laptop")
    sudo.enrol(bob, "laptop")
    screen = enabled(admin, "--sign", "--user", alice.name)
    sign(admin, bob)
    assert admin.run("status", "--json").returncode == 0
    assert "pending" in admin.inside("ls", f"{CHANGES}/sudo-sign")
    sign(admin, alice)
    screen.expect("Done. sudo asks for signatures from now on")
    screen.expect(pexpect.EOF)
    assert "confirmed" in admin.inside("ls", f"{CHANGES}/sudo-sign")
    assert "action=confirm user=all service=sudo-sign how=signature" in "\n".join(admin.mounts.log.lines)
    sign(admin, alice)
    assert admin.inside("ls", f"{CHANGES}/sudo-sign").split() == ["confirmed"]


@pytest.mark.lockout("the machine restarts while a change of sudo's signatures waits to be confirmed")
def test_roll_back__takes_it_back_after_a_restart(admin: Admin, sudo: SigningSudo, alice: Person) -> None:
    before = sudo.conf.read_bytes()
    sudo.enrol(alice, "laptop")
    screen = enabled(admin)
    admin.kill_watchdogs()
    assert screen.pid is not None
    os.kill(screen.pid, signal.SIGKILL)
    path = admin.mounts.path(f"{CHANGES}/sudo-sign/pending")
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))
    done = admin.run("roll-back")
    assert '"sudo-sign": not confirmed in time; the change goes back' in done.stderr
    assert sudo.conf.read_bytes() == before
    assert sudo.works(alice.name)


def test_enable__watchdog_takes_back_what_a_killed_program_has_done(
    admin: Admin, sudo: SigningSudo, alice: Person
) -> None:
    before = sudo.conf.read_bytes()
    screen = enabled(admin)
    screen.close(force=True)
    admin.let_time_pass("sudo-sign")
    wait_until(lambda: sudo.conf.read_bytes() == before, "the change to go back")


def test_going_back__leaves_what_others_have_written(admin: Admin, sudo: SigningSudo) -> None:
    before = sudo.conf.read_bytes()
    enabled(admin)
    with sudo.conf.open("ab") as file:
        file.write(b"Set probe_interfaces false\n")
    done = admin.run("disable", "sudo", "--sign")
    assert done.returncode == 0, done.stderr
    assert sudo.conf.read_bytes() == before + b"Set probe_interfaces false\n"
    enabled(admin)
    sudo.conf.write_bytes(b"# mine\n" + sudo.conf.read_bytes())
    admin.let_time_pass("sudo-sign")
    wait_until(lambda: LINE.encode() not in sudo.conf.read_bytes(), "the change to go back")
    assert sudo.conf.read_bytes() == b"# mine\n" + before + b"Set probe_interfaces false\n"


def test_enable__dry_run_changes_nothing(admin: Admin, sudo: SigningSudo) -> None:
    before = sudo.conf.read_bytes()
    done = admin.run("enable", "sudo", "--sign", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"+{LINE}" in done.stdout
    assert "Tried: " in done.stderr
    assert done.stderr.endswith("Nothing was changed.\n")
    assert sudo.conf.read_bytes() == before
    assert not admin.mounts.path(SIGNERS).exists()
    assert admin.inside("ls", CHANGES) == ""
    sudo.conf.write_bytes(before + LINE.encode())
    done = admin.run("disable", "sudo", "--sign", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"-{LINE}" in done.stdout
    assert sudo.conf.read_bytes() == before + LINE.encode()


def test_conf__that_did_not_exist_is_gone_again(admin: Admin, sudo: SigningSudo, alice: Person) -> None:
    sudo.conf.unlink()
    sudo.enrol(alice, "laptop")
    for off in ("disable sudo --sign", "roll-back"):
        enabled(admin)
        assert sudo.conf.read_text() == LINE
        assert not sudo.works(alice.name)
        if off == "roll-back":
            admin.let_time_pass("sudo-sign")
            admin.run(off)
            wait_until(lambda: not sudo.conf.exists(), "the change to go back")
        else:
            assert admin.run(*off.split()).returncode == 0
        assert not sudo.conf.exists()


def test_required__users_without_a_token_must_be_named(
    admin: Admin, sudo: SigningSudo, alice: Person, bob: Person
) -> None:
    before = sudo.conf.read_bytes()
    sudo.enrol(alice, "laptop")
    words = ("enable", "sudo", "--sign=required")
    error, hint = refused(admin, *words)
    assert error == f"this would lock out {bob.name}; nothing was changed"
    assert hint == f"enrol them first, or confirm with: --lock-out {bob.name}"
    error, hint = refused(admin, *words, "--lock-out", bob.name, around=as_user(bob))
    assert error == f"you are {bob.name}, and sudo would refuse you: no signing token; nothing was changed"
    assert hint == "softtoken-enroll --sign first; --force goes on anyway"
    assert sudo.conf.read_bytes() == before
    screen = enabled(admin, "--sign=required", "--lock-out", bob.name)
    assert sudo.conf.read_bytes() == before + REQUIRED_LINE.encode()
    assert "and refuses the others." in shown_on(screen)
    assert admin.run("confirm", "sudo-sign").returncode == 0
    assert not sudo.works(bob.name)


@pytest.mark.lockout("nobody who may use sudo could sign")
def test_required__last_user_who_can_become_root_is_not_locked_out(
    admin: Admin, sudo: SigningSudo, alice: Person, bob: Person
) -> None:
    both = f"{alice.name},{bob.name}"
    error, _ = refused(admin, "enable", "sudo", "--sign=required", "--lock-out", both)
    assert error == "sudo would refuse everybody who can become root with it today; nothing was changed"
    screen = enabled(admin, "--sign=required", "--force")
    assert "Nobody can sign yet" in shown_on(screen) + screen.readline()


def test_revoked__signer_counts_as_locked_out(admin: Admin, sudo: SigningSudo, alice: Person, bob: Person) -> None:
    sudo.enrol(alice)
    error, _ = refused(admin, "enable", "sudo", "--sign")
    assert error == f"this would lock out {alice.name}; nothing was changed"
    sudo.enrol(alice, "laptop")
    admin.mounts.path(f"{SIGNERS}/{alice.uid}/tokens").write_text("{}")
    done = admin.run("enable", "sudo", "--sign", "--dry-run")
    assert f"  {alice.name}: {SIGNERS}/{alice.uid}/tokens: " in done.stderr


def test_service__that_needs_no_password_counts_even_without_a_shell(
    admin: Admin, sudo: SigningSudo, alice: Person
) -> None:
    sudo.enrol(alice, "laptop")
    sudo.allow(f"{alice.name} ALL=(ALL) ALL", "games ALL=(root) NOPASSWD: /usr/bin/id", "news ALL=(root) /usr/bin/id")
    error, _ = refused(admin, "enable", "sudo", "--sign=required")
    assert error == "this would lock out games; nothing was changed"


def _damage(sudo: SigningSudo) -> None:
    sudo.plugin.write_bytes(sudo.plugin.read_bytes()[:2000])


def _remove(sudo: SigningSudo) -> None:
    sudo.plugin.unlink()


def _open(sudo: SigningSudo) -> None:
    sudo.plugin.chmod(0o666)


def _open_directory(sudo: SigningSudo) -> None:
    sudo.plugin.parent.chmod(0o777)


def _other(sudo: SigningSudo) -> None:
    shutil.copy(sudo.plugin.with_name("group_file.so"), sudo.plugin)


def _refuse(sudo: SigningSudo) -> None:
    build_plugin(sudo.plugin, NO)


def _wave_through(sudo: SigningSudo) -> None:
    build_plugin(sudo.plugin, YES)


def _open_conf(sudo: SigningSudo) -> None:
    sudo.conf.chmod(0o664)


def _break_conf(sudo: SigningSudo) -> None:
    sudo.conf.write_text("Plugin sudoers_policy missing.so\n")


FAULTS: dict[Callable[[SigningSudo], None], tuple[str, str]] = {
    _damage: (f"sudo could not load {OURS}: ", "apt install --reinstall sudo-softtoken"),
    _remove: (f"{OURS} is not there", "apt install sudo-softtoken"),
    _open: (f"{OURS} cannot be trusted: others can write it", "let only root write it and the directories above it"),
    _open_directory: (f"{OURS} cannot be trusted: /usr/libexec/sudo ", "let only root write it and the directories"),
    _other: (f"sudo could not load {OURS}: ", "apt install --reinstall sudo-softtoken"),
    _refuse: ("sudo would not even run a command of root's", "the system log may say more; to install it again: apt"),
    _wave_through: ("our plugin lets a user with a signing token through without a signature; nothing", "the system"),
    _open_conf: (f"sudo ignores {CONF}, because others than root could change it", f"chown root:root {CONF}; chmod"),
    _break_conf: ("sudo does not work: sudo: error in /etc/sudo.conf, line 1", "see /usr/bin/sudo -V"),
}


@pytest.mark.lockout("sudo's plugin is missing, damaged, or refuses even root")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_enable__fault_is_found_before_anything_changes(
    fault: Callable[[SigningSudo], None], admin: Admin, sudo: SigningSudo, alice: Person
) -> None:
    fault(sudo)
    before = sudo.conf.read_bytes()
    error, hint = refused(admin, "enable", "sudo", "--sign", SHORT)
    assert error.startswith(FAULTS[fault][0])
    assert hint.startswith(FAULTS[fault][1])
    assert sudo.conf.read_bytes() == before
    assert admin.inside("ls", CHANGES) == ""


@pytest.mark.lockout("the file of sudo's plugin is damaged or gone while sudo asks for signatures")
@pytest.mark.parametrize("fault", [_damage, _remove, _refuse], ids=lambda fault: fault.__name__.strip("_"))
def test_disable__needs_neither_sudo_nor_the_plugin(
    fault: Callable[[SigningSudo], None], admin: Admin, sudo: SigningSudo
) -> None:
    before = sudo.conf.read_bytes()
    enabled(admin)
    assert admin.run("confirm").returncode == 0
    fault(sudo)
    assert not sudo.works()
    done = admin.run("disable", "sudo", "--sign")
    assert done.returncode == 0, done.stderr
    assert sudo.works()
    assert sudo.conf.read_bytes() == before


def test_disable__takes_out_lines_that_were_written_by_hand(admin: Admin, sudo: SigningSudo) -> None:
    sudo.conf.write_text(f"# a\nplugin softtoken_approval \\\n  {OURS}\nSet probe_interfaces false\n{REQUIRED_LINE}")
    done = admin.run("disable", "sudo", "--sign")
    assert done.returncode == 0, done.stderr
    assert sudo.conf.read_text() == "# a\nSet probe_interfaces false\n"
    assert admin.inside("ls", CHANGES) == ""


def test_required__can_be_turned_on_and_off_and_an_unconfirmed_change_goes_back_to_it(
    admin: Admin, sudo: SigningSudo, alice: Person, bob: Person
) -> None:
    before = sudo.conf.read_bytes()
    for person in (alice, bob):
        sudo.enrol(person, "laptop")
    enabled(admin)
    error, hint = refused(admin, "enable", "sudo", "--sign=required")
    assert error.startswith('a change of "sudo-sign" waits to be confirmed, for ')
    assert hint == "softtoken-admin confirm sudo-sign, or softtoken-admin disable sudo --sign"
    assert admin.run("confirm").returncode == 0
    error, _ = refused(admin, "enable", "sudo", "--sign")
    assert error == f"sudo asks for signatures already, because of a line in {CONF}"
    enabled(admin, "--sign=required")
    assert admin.run("confirm").returncode == 0
    assert sudo.conf.read_bytes() == before + REQUIRED_LINE.encode()
    enabled(admin, "--sign")
    assert sudo.conf.read_bytes() == before + LINE.encode()
    sudo.conf.write_bytes(sudo.conf.read_bytes() + b"# mine\n")
    admin.let_time_pass("sudo-sign")
    wanted = before + b"# mine\n" + REQUIRED_LINE.encode()
    wait_until(lambda: sudo.conf.read_bytes() == wanted, "the change to go back")
    assert admin.run("disable", "sudo", "--sign").returncode == 0
    assert sudo.conf.read_bytes() == before + b"# mine\n"


def test_trial__where_private_mounts_are_impossible_is_left_out(admin: Admin, sudo: SigningSudo) -> None:
    around = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    done = admin.run("enable", "sudo", "--sign", "--dry-run", around=around)
    assert done.returncode == 0, done.stderr
    assert "Not tried before use, because a private mount is not possible here: unshare: " in done.stderr
