"""Check that a refusal names its cure: the command in the log is run as it stands, and then the owner gets in.

Each scene is one way in which files come to be refused. The log names the object by its full path and a command for
root. `softtoken-admin status` names the same one. Nothing is shown at the prompt.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import enrolled_mark
from tests.support.account import Person, Phone, resident_of
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.disk import disk_as_home
from tests.support.enroller import Finished
from tests.support.pam_scene import NO_CODES, PROMPT, Pam
from tests.support.system_log import SystemLog

NOBODY = 65534
_WITH_CONF = 'mount --bind "$1" /etc/security; shift; exec "$@"'


class Host:
    """A host where the resident is enrolled, and the place of the files.

    Attributes:
        store: the directory with both files.
        phone: the soft token.
    """

    def __init__(self, pam: Pam, person: Person, outside: Path, *, at_roots: bool) -> None:
        self.person = person
        self.outside = outside
        self._installed = pam.installed
        self._conf = outside / "security"
        self.store = person.store
        option = ""
        if at_roots:
            shutil.copytree("/etc/security", self._conf)
            (outside / "tokens").mkdir(mode=0o700)
            self.store = outside / "tokens" / str(person.uid)
            option = f"store={outside}/tokens/%U"
            (self._conf / "softtoken.conf").write_text(option.replace("=", " = ", 1) + "\n")
        self.service = pam.service(*([option] if option else []))
        self.phone = self.enrol("softtoken-enroll", f"--user={person.name}")

    def enrol(self, *command: str) -> Phone:
        """Run an enrolment as a script does."""
        done = self.run(*command, "--no-confirm", "--json", "--period=300", NO_CODES)
        assert done.returncode == 0, done.stderr
        return Phone(json.loads(done.stdout))

    def finished(self, *command: str, person: Person | None = None) -> tuple[int, str, str]:
        """Run a command, and return its status and what it wrote."""
        words = (
            [] if person is None else ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", "--clear-groups"]
        )
        done = self.run(*words, *command)
        return done.returncode, done.stdout, done.stderr

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root, with this host's programs and settings."""
        inside = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _WITH_CONF, "sh", str(self._conf)]
        words = [*inside, *command] if self._conf.exists() else command
        path = f"{self._installed.root}/scripts:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"PATH": path, "LC_ALL": "C.UTF-8"}
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    def carry_out(self, command: str, *, person: Person | None = None) -> None:
        """Run a cure as a shell would, as root or as the user. A new token goes into the phone."""
        if command.startswith("softtoken-enroll "):
            self.phone = self.enrol(*command.split())
            return
        status, _, stderr = self.finished("sh", "-c", command, person=person)
        assert status == 0, stderr

    def spelt(self, cure: str) -> str:
        """Return a cure of the table with the names of this host."""
        words = cure.replace("~alice", str(self.person.home)).replace("DIR", str(self.store.parent))
        return words.replace("alice", self.person.name)


@pytest.fixture(scope="module")
def resident(world: Path) -> Iterator[Person]:
    """The one user of all scenes."""
    with resident_of(world / "homes-cured") as person:
        yield person


@pytest.fixture
def clean(resident: Person) -> Iterator[Person]:
    """The resident. The home is restored after the test, whatever was done to it."""
    yield resident
    subprocess.run(["chattr", "-R", "-i", resident.home], check=False, capture_output=True)
    os.chown(resident.home, resident.uid, resident.gid)
    resident.home.chmod(0o755)
    for path in resident.home.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    resident.forget_on_the_host()


def chown_all(path: Path, uid: int) -> None:
    for each in (path, *path.rglob("*")):
        os.chown(each, uid, uid, follow_symlinks=False)


def as_root_restored_it(host: Host) -> None:
    chown_all(host.store, 0)


def as_another_uid(host: Host) -> None:
    chown_all(host.store, NOBODY)


def tokens_of_another_uid(host: Host) -> None:
    os.chown(host.store / "tokens", NOBODY, NOBODY)


def tokens_of_root_for_all_to_read(host: Host) -> None:
    os.chown(host.store / "tokens", 0, 0)
    (host.store / "tokens").chmod(0o644)


def backup_of_links(host: Host) -> None:
    subprocess.run(["cp", "-al", host.store, host.outside / "backup"], check=True)


def link_in_its_place(host: Host) -> None:
    host.store.rename(host.store.parent / "elsewhere")
    host.store.symlink_to("elsewhere")


def _file_becomes_a_link(file: Path, owner: int) -> None:
    file.rename(file.with_name("true-one"))
    file.symlink_to("true-one")
    os.chown(file, owner, owner, follow_symlinks=False)


def tokens_is_a_link(host: Host) -> None:
    _file_becomes_a_link(host.store / "tokens", host.store.stat().st_uid)


def state_is_a_link(host: Host) -> None:
    _file_becomes_a_link(host.store / "state", host.store.stat().st_uid)


def modes_of_umask_002(host: Host) -> None:
    host.store.chmod(0o775)
    for name in ("tokens", "state"):
        (host.store / name).chmod(0o664)


def no_modes(host: Host) -> None:
    host.store.chmod(0)


def immutable_state(host: Host) -> None:
    if subprocess.run(["chattr", "+i", host.store / "state"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this file system has no immutable files, or root may not make any here")


def file_in_its_place(host: Host) -> None:
    shutil.rmtree(host.store)
    host.store.touch(0o600)


def empty_directory(host: Host) -> None:
    for path in host.store.iterdir():
        path.unlink()


def empty_tokens(host: Host) -> None:
    os.truncate(host.store / "tokens", 0)


def home_closed(host: Host) -> None:
    host.person.home.chmod(0)


def home_open_to_its_group(host: Host) -> None:
    host.person.home.chmod(0o775)


def home_of_another_uid(host: Host) -> None:
    os.chown(host.person.home, NOBODY, NOBODY)


def parent_of_another_uid(host: Host) -> None:
    os.chown(host.store.parent, NOBODY, NOBODY)


def parent_open_to_others(host: Host) -> None:
    host.store.parent.chmod(0o777)


Spoil = Callable[[Host], None]


@pytest.mark.parametrize(
    ("spoil", "culprit"),
    [
        pytest.param(as_root_restored_it, "~alice/.softtoken", marks=pytest.mark.lockout(
            "a restore made ~/.softtoken root's", shows="reason=unusable_file", cure="softtoken-admin mend alice")),
        pytest.param(as_another_uid, "~alice/.softtoken", marks=pytest.mark.lockout(
            "a restore gave ~/.softtoken another uid", shows="reason=unusable_file",
            cure="softtoken-admin mend alice")),
        pytest.param(tokens_of_another_uid, "~alice/.softtoken/tokens", marks=pytest.mark.lockout(
            "the token file belongs to another uid", shows="reason=unusable_file", cure="softtoken-admin mend alice")),
        pytest.param(tokens_of_root_for_all_to_read, "~alice/.softtoken/tokens", marks=pytest.mark.lockout(
            "the token file is root's, for everybody to read", shows="reason=insecure_file",
            cure="softtoken-admin mend alice")),
        pytest.param(backup_of_links, "~alice/.softtoken/tokens", marks=pytest.mark.lockout(
            "a backup has hard links to the files (cp -al)", shows="reason=insecure_file",
            cure="softtoken-admin mend alice")),
        pytest.param(link_in_its_place, "~alice/.softtoken", marks=pytest.mark.lockout(
            "~/.softtoken is a symbolic link", shows="reason=insecure_file", cure="softtoken-admin mend alice")),
        pytest.param(tokens_is_a_link, "~alice/.softtoken/tokens", marks=pytest.mark.lockout(
            "the token file is a symbolic link", shows="reason=insecure_file", cure="softtoken-admin mend alice")),
        pytest.param(state_is_a_link, "~alice/.softtoken/state", marks=pytest.mark.lockout(
            "the state file is a symbolic link", shows="reason=insecure_file", cure="softtoken-admin mend alice")),
        pytest.param(modes_of_umask_002, "~alice/.softtoken", marks=pytest.mark.lockout(
            "a restore with umask 002 opened ~/.softtoken to the group", shows="reason=insecure_file",
            cure="softtoken-admin mend alice")),
        pytest.param(no_modes, "~alice/.softtoken", marks=pytest.mark.lockout(
            "~/.softtoken has mode 0000", shows="reason=unusable_file", cure="softtoken-admin mend alice")),
        pytest.param(immutable_state, "~alice/.softtoken/state", marks=pytest.mark.lockout(
            "the state file is immutable (chattr +i)", shows="reason=unusable_file",
            cure="softtoken-admin mend alice")),
        pytest.param(file_in_its_place, "~alice/.softtoken", marks=pytest.mark.lockout(
            "~/.softtoken is a file", shows="reason=unusable_file", cure="softtoken-enroll --user alice --force")),
        pytest.param(empty_directory, "~alice/.softtoken/tokens", marks=pytest.mark.lockout(
            "~/.softtoken is an empty directory", shows="reason=not_enrolled", cure="softtoken-enroll --user alice")),
        pytest.param(empty_tokens, "~alice/.softtoken/tokens", marks=pytest.mark.lockout(
            "the token file has 0 bytes after a crash", shows="reason=bad_token_file",
            cure="softtoken-enroll --user alice --force")),
        pytest.param(home_closed, "~alice", marks=pytest.mark.lockout(
            "the home directory has mode 0000", shows="reason=unusable_file",
            cure="runuser -u alice -- chmod u+rwx ~alice")),
        pytest.param(home_open_to_its_group, "~alice", marks=pytest.mark.lockout(
            "the home directory can be written by its group", shows="reason=insecure_file",
            cure="runuser -u alice -- chmod go-w ~alice")),
        pytest.param(home_of_another_uid, "~alice", marks=pytest.mark.lockout(
            "the home directory belongs to another uid", shows="reason=insecure_file",
            cure="chown -h --from=65534 alice ~alice")),
    ],
)  # fmt: skip
def test_home__log_names_the_object_and_a_command_after_which_the_owner_logs_in(
    request: pytest.FixtureRequest,
    pam: Pam,
    clean: Person,
    outside: Path,
    system_log: SystemLog,
    spoil: Spoil,
    culprit: str,
) -> None:
    host = Host(pam, clean, outside, at_roots=False)
    require_cured(host, system_log, spoil, culprit, request)


@pytest.mark.parametrize(
    ("spoil", "culprit"),
    [
        pytest.param(as_another_uid, "DIR/UID", marks=pytest.mark.lockout(
            "a restore gave a user's directory in root's store another uid", shows="reason=insecure_file",
            cure="softtoken-admin mend alice")),
        pytest.param(tokens_of_another_uid, "DIR/UID/tokens", marks=pytest.mark.lockout(
            "a token file in root's store belongs to another uid", shows="reason=insecure_file",
            cure="softtoken-admin mend alice")),
        pytest.param(backup_of_links, "DIR/UID/tokens", marks=pytest.mark.lockout(
            "a backup of root's store has hard links to the files", shows="reason=insecure_file",
            cure="softtoken-admin mend alice")),
        pytest.param(link_in_its_place, "DIR/UID", marks=pytest.mark.lockout(
            "a user's directory in root's store is a symbolic link", shows="reason=insecure_file",
            cure="softtoken-enroll --user alice --force")),
        pytest.param(modes_of_umask_002, "DIR/UID", marks=pytest.mark.lockout(
            "a restore with umask 002 opened root's store to the group", shows="reason=insecure_file",
            cure="softtoken-admin mend alice")),
        pytest.param(immutable_state, "DIR/UID/state", marks=pytest.mark.lockout(
            "a state file in root's store is immutable", shows="reason=unusable_file",
            cure="softtoken-admin mend alice")),
        pytest.param(empty_tokens, "DIR/UID/tokens", marks=pytest.mark.lockout(
            "a token file in root's store has 0 bytes", shows="reason=bad_token_file",
            cure="softtoken-enroll --user alice --force")),
        pytest.param(parent_of_another_uid, "DIR", marks=pytest.mark.lockout(
            "the directory of root's store belongs to another uid", shows="reason=insecure_file",
            cure="chown -h --from=65534 root DIR")),
        pytest.param(parent_open_to_others, "DIR", marks=pytest.mark.lockout(
            "the directory of root's store can be written by others", shows="reason=insecure_file",
            cure="chmod go-w DIR")),
    ],
)  # fmt: skip
def test_root_store__log_names_the_object_and_a_command_after_which_the_owner_logs_in(
    request: pytest.FixtureRequest,
    pam: Pam,
    clean: Person,
    outside: Path,
    system_log: SystemLog,
    spoil: Spoil,
    culprit: str,
) -> None:
    host = Host(pam, clean, outside, at_roots=True)
    require_cured(host, system_log, spoil, culprit, request)


def require_cured(host: Host, log: SystemLog, spoil: Spoil, culprit: str, request: pytest.FixtureRequest) -> None:
    """Spoil the files, read the cure from the log, carry it out, and log in."""
    marker = request.node.get_closest_marker("lockout")
    cure = host.spelt(marker.kwargs["cure"])
    named = host.spelt(culprit.replace("UID", str(host.person.uid)))
    spoil(host)
    outcome = host.service.log_in(host.person, host.phone.totp())
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == PROMPT
    (fields,) = log.outcomes()
    assert f"reason={fields['reason']}" == marker.kwargs["shows"]
    problem, _, command = fields["detail"].strip('"').partition("; as root: ")
    assert command == cure
    assert named in f"{problem} {command}".replace(": ", " ").split()
    if fields["reason"] != "not_enrolled":
        facts = json.loads(host.run("softtoken-admin", "status", "--json", host.person.name).stdout)["users"][0]
        assert (facts["problem"], facts["cure"]) == (problem, cure)
    host.carry_out(command)
    assert host.service.log_in(host.person, host.phone.totp(1)).result == PAM_SUCCESS, log.ours()
    assert host.service.log_in(host.person, host.phone.totp(1)).result == PAM_AUTH_ERR


# ---- at enrolment


def home_of_root(host: Host) -> None:
    """As sshd needs it for ChrootDirectory."""
    os.chown(host.person.home, 0, 0)


def home_not_writable(host: Host) -> None:
    host.person.home.chmod(0o555)


def home_immutable(host: Host) -> None:
    if subprocess.run(["chattr", "+i", host.person.home], check=False, capture_output=True).returncode != 0:
        pytest.skip("this file system has no immutable directories, or root may not make any here")


def home_read_only(host: Host) -> None:
    subprocess.run(["mount", "-o", "remount,ro", host.person.home], check=True)


@pytest.mark.parametrize(
    ("spoil", "own"),
    [
        pytest.param(home_open_to_its_group, "chmod go-w ~alice", marks=pytest.mark.lockout(
            "the home directory can be written by its group, at enrolment", shows="others can write it (mode 0775)",
            cure="runuser -u alice -- chmod go-w ~alice")),
        pytest.param(home_of_root, "", marks=pytest.mark.lockout(
            "the home directory is root's, for a chroot of sftp, at enrolment", shows=".softtoken: Permission denied",
            cure="softtoken-admin mend alice")),
        pytest.param(home_of_another_uid, "", marks=pytest.mark.lockout(
            "the home directory belongs to another uid, at enrolment", shows="belongs to uid 65534",
            cure="chown -h --from=65534 alice ~alice")),
        pytest.param(home_closed, "chmod u+rwx ~alice", marks=pytest.mark.lockout(
            "the home directory has mode 0000, at enrolment", shows=".softtoken: Permission denied",
            cure="runuser -u alice -- chmod u+rwx ~alice")),
        pytest.param(home_not_writable, "chmod u+rwx ~alice", marks=pytest.mark.lockout(
            "the user may not write in the home directory, at enrolment", shows=".softtoken: Permission denied",
            cure="runuser -u alice -- chmod u+rwx ~alice")),
        pytest.param(home_immutable, "", marks=pytest.mark.lockout(
            "the home directory is immutable (chattr +i), at enrolment", shows=".softtoken: Operation not permitted",
            cure="chattr -i ~alice")),
        pytest.param(home_read_only, "", marks=pytest.mark.lockout(
            "the home directory is read-only, at enrolment", shows=".softtoken: Read-only file system",
            cure="mount -o remount,rw $(findmnt -n -o TARGET -T ~alice)")),
    ],
)  # fmt: skip
def test_enrolment__error_names_the_object_and_a_command_after_which_it_succeeds(
    request: pytest.FixtureRequest, pam: Pam, clean: Person, outside: Path, spoil: Spoil, own: str
) -> None:
    marker = request.node.get_closest_marker("lockout")
    with contextlib.ExitStack() as clearing:
        if spoil is home_read_only:
            clearing.enter_context(disk_as_home(clean))
        host = Host(pam, clean, outside, at_roots=False)
        shutil.rmtree(host.store)
        spoil(host)
        cure = host.spelt(marker.kwargs["cure"])
        command = (f"--user={clean.name}", "--no-confirm", "--json", NO_CODES)
        for others in ((), ("--force",)):
            refused = Finished(*host.finished("softtoken-enroll", *command, *others)).refused()
            assert str(clean.home) in refused.error
            assert marker.kwargs["shows"] in refused.error
            assert refused.hint.split("; ")[0] == f"run: {cure}"
        for_the_user = f"run: {host.spelt(own)}" if own else f"ask an administrator for: {cure}"
        refused = Finished(*host.finished("softtoken-enroll", *command[1:], person=clean)).refused()
        assert refused.hint.split("; ")[0] == for_the_user
        host.carry_out(refused.hint.split("; ")[0].partition(": ")[2], person=clean if own else None)
        host.phone = host.enrol("softtoken-enroll", command[0])
        assert host.service.log_in(clean, host.phone.totp()).result == PAM_SUCCESS


# ---- what root must not do


def test_mend__reads_nothing_for_a_user_but_their_own_tokens(
    pam: Pam, clean: Person, outside: Path, make_person: Callable[[], Person]
) -> None:
    host = Host(pam, clean, outside, at_roots=False)
    other = make_person()
    other.enrol(pam.installed, NO_CODES)
    key = (other.store / "tokens").read_bytes()
    shutil.rmtree(host.store)
    # A copy that root made in the user's home, renamed by the user.
    shutil.copytree(other.store, host.store)
    chown_all(host.store, 0)
    status, _, stderr = host.finished("softtoken-admin", "mend", clean.name)
    assert status == 1
    assert "may be another user's; nothing was changed" in stderr
    assert host.store.stat().st_uid == 0
    # A link to a file that only root and the other user can read.
    shutil.rmtree(host.store)
    host.store.symlink_to(other.store)
    status, _, stderr = host.finished("softtoken-admin", "mend", clean.name)
    assert status == 1
    assert "nothing in it can be kept" in stderr
    # A second name for the other user's file.
    host.store.unlink()
    host.store.mkdir(0o700)
    os.chown(host.store, clean.uid, clean.gid)
    os.link(other.store / "tokens", host.store / "tokens")
    status, _, stderr = host.finished("softtoken-admin", "mend", clean.name)
    assert status == 1
    assert (other.store / "tokens").stat().st_uid == other.uid
    assert not any(
        path.is_file() and path.stat().st_uid == clean.uid and path.read_bytes() == key
        for path in clean.home.rglob("*")
    )


@pytest.mark.parametrize("command", ["mend", "revoke", "force"])
def test_mend__does_not_hand_over_a_file_of_root_renamed_to_state(
    pam: Pam, clean: Person, outside: Path, command: str
) -> None:
    host = Host(pam, clean, outside, at_roots=False)
    secret = b"what root has written into the user's home\n"
    (host.store / "state").write_bytes(secret)
    os.chown(host.store / "state", 0, 0)
    (host.store / "state").chmod(0o600)
    status, _, stderr = host.finished(*{
        "mend": ("softtoken-admin", "mend", clean.name),
        "revoke": ("softtoken-admin", "revoke", clean.name, "--yes"),
        "force": ("softtoken-enroll", f"--user={clean.name}", "--force", "--no-confirm", "--json", NO_CODES),
    }[command])  # fmt: skip
    assert status == 0, stderr
    (kept,) = (path for path in clean.home.rglob("*") if path.is_file() and path.read_bytes() == secret)
    assert kept.stat().st_uid == 0


def test_mend__does_not_hand_over_tokens_of_a_former_owner_of_the_home(pam: Pam, clean: Person, outside: Path) -> None:
    host = Host(pam, clean, outside, at_roots=False)
    gone = 2_999_999
    chown_all(host.store, gone)
    mark = Path(enrolled_mark.path_of(gone))
    mark.write_text("somebody-who-is-gone")
    try:
        status, _, stderr = host.finished("softtoken-admin", "mend", clean.name)
    finally:
        mark.unlink()
    assert status == 1
    assert "may be another user's; nothing was changed" in stderr
    assert host.store.stat().st_uid == gone
    status, _, stderr = host.finished("softtoken-admin", "mend", clean.name)
    assert status == 0, stderr


def test_mend__after_a_kill_before_the_last_step_names_the_written_copy(pam: Pam, clean: Person, outside: Path) -> None:
    host = Host(pam, clean, outside, at_roots=False)
    host.store.rename(clean.home / f"{host.store.name}.0123456789abcdef")
    status, _, stderr = host.finished("softtoken-admin", "mend", clean.name)
    assert status == 1
    hint = next(line for line in stderr.splitlines() if "hint: " in line)
    host.carry_out(hint.partition("hint: ")[2].partition(", if")[0])
    assert host.service.log_in(clean, host.phone.totp()).result == PAM_SUCCESS


def test_mend__missing_store_is_an_error_that_names_it(pam: Pam, clean: Person, outside: Path) -> None:
    host = Host(pam, clean, outside, at_roots=False)
    status, _, stderr = host.finished("softtoken-admin", "mend", clean.name, "--store=%h/.config/softtoken")
    assert status == 1
    assert f"error: {clean.name} is not enrolled in {clean.home}/.config/softtoken\n" in stderr


def test_force__makes_a_new_token_in_place_of_any_other_files(pam: Pam, clean: Person, outside: Path) -> None:
    host = Host(pam, clean, outside, at_roots=False)
    for name in ("state", "state.old"):
        (host.store / name).unlink(missing_ok=True)
        (host.store / name / "inside").mkdir(parents=True)
    chown_all(host.store, clean.uid)
    host.phone = host.enrol("softtoken-enroll", f"--user={clean.name}", "--force")
    assert host.service.log_in(clean, host.phone.totp()).result == PAM_SUCCESS


def test_revoke__replaces_files_with_hard_links(pam: Pam, clean: Person, outside: Path, system_log: SystemLog) -> None:
    host = Host(pam, clean, outside, at_roots=False)
    backup_of_links(host)
    status, _, stderr = host.finished("softtoken-admin", "revoke", clean.name, "--yes")
    assert status == 0, stderr
    assert "are as they were" not in stderr
    assert (host.store / "state").stat().st_nlink == 1
    assert not (host.store / "tokens").exists()
    assert (outside / "backup" / "tokens").stat().st_nlink == 1
    host.phone = host.enrol("softtoken-enroll", f"--user={clean.name}")
    assert host.service.log_in(clean, host.phone.totp(1)).result == PAM_SUCCESS
