"""Log in for the first time, before pam_mkhomedir has made the home: new users count as new, and no others do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import account_record, enrolled_mark
from tests.support.account import Person
from tests.support.admin import Admin, succeeded
from tests.support.client import ECHO_OFF, PAM_AUTH_ERR, PAM_SUCCESS, PERMIT, TEXT_INFO, Outcome, Service
from tests.support.installation import Installation
from tests.support.newcomer import Talk, command_in_its_directory, in_its_directory
from tests.support.newcomer import lines as enrolling
from tests.support.pam_scene import NO_CODES, PROMPT, Clock, Pam
from tests.support.system_log import SystemLog

MAKES = "session optional pam_mkhomedir.so silent umask=0077\n"
REST = "account required pam_permit.so\nsession required pam_permit.so\n"
DAY = "2027-01-15"
SESSION = ("--session",)
_MISSING = "there is no home directory yet, or it is not mounted"
_INSIDE = ["unshare", "--mount", "--propagation", "private", "sh", "-euc"]


@pytest.fixture
def newcomer(alice: Person) -> Iterator[Person]:
    """A user of a directory, as it were: there is an account, and no home yet."""
    shutil.rmtree(alice.home)
    yield alice
    subprocess.run(["usermod", "--home", str(alice.home), alice.name], check=True, capture_output=True)
    if alice.home.is_symlink() or not alice.home.is_dir():
        alice.home.unlink(missing_ok=True)
        alice.home.mkdir()
    shutil.chown(alice.home, alice.name)
    alice.home.parent.chmod(0o755)


@pytest.fixture
def nullok(pam: Pam, installed: Installation) -> Service:
    """A service that asks users with a token, and makes homes."""
    return pam.stack(PERMIT + installed.line("nullok") + MAKES + REST)


def log_in_after(steps: str, service: Service, person: Person, *words: str) -> Outcome:
    """Log in with a wrong code, in a mount namespace in which root has done something before."""
    command = [*_INSIDE, f'{steps}\nshift {len(words)}; exec "$@"', "sh", *words]
    command += command_in_its_directory(service, person, *SESSION)
    done = subprocess.run(command, input="=000000\n", capture_output=True, text=True, check=True, timeout=300)
    return Outcome(done.stdout)


@pytest.mark.lockout("nullok, and the home is made by the first session")
@pytest.mark.claim("`nullok` also lets in new users whose home directory the session makes after the first login.")
def test_nullok__lets_in_a_new_user_whose_home_the_session_makes_and_then_asks_once_enrolled(
    nullok: Service, installed: Installation, newcomer: Person, system_log: SystemLog
) -> None:
    outcome = in_its_directory(nullok, newcomer, options=SESSION)
    assert (outcome.result, outcome.session, outcome.messages) == (PAM_SUCCESS, PAM_SUCCESS, [])
    assert newcomer.home.owner() == newcomer.name
    (seen,) = system_log.outcomes()
    assert (seen["result"], seen["reason"]) == ("ignored", "not_enrolled")
    assert seen["detail"].strip('"') == "the home directory is not there yet"
    assert in_its_directory(nullok, newcomer, options=SESSION).messages == [], "with a home, as ever"
    phone = newcomer.enrol(installed, "--type=hotp", NO_CODES)
    for code, result in (("000000", PAM_AUTH_ERR), (phone.hotp(), PAM_SUCCESS)):
        outcome = in_its_directory(nullok, newcomer, code, options=SESSION)
        assert (outcome.result, outcome.messages) == (result, PROMPT)


def test_required_from__lets_a_new_user_in_before_its_day_and_not_from_then_on(
    pam: Pam, newcomer: Person, standing_clock: Clock, system_log: SystemLog
) -> None:
    ours = pam.line(f"backend={standing_clock.backend}", f"required_from={DAY}")
    service = pam.stack(PERMIT + ours + MAKES + REST)
    standing_clock.set(1_799_000_000)
    outcome = in_its_directory(service, newcomer, options=SESSION)
    assert outcome.result == outcome.session == PAM_SUCCESS
    assert [style for style, _ in outcome.messages] == [TEXT_INFO]
    shutil.rmtree(newcomer.home)
    standing_clock.set(1_810_000_000)
    outcome = in_its_directory(service, newcomer, "000000", options=SESSION)
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert system_log.reasons() == ["not_enrolled", "no_home"]
    assert system_log.outcomes()[-1]["detail"].startswith(f'"{newcomer.home}: {_MISSING}; as root: mkhomedir_helper')


def test_enrol__with_a_store_outside_the_home_enrols_and_the_next_login_asks(
    pam: Pam, installed: Installation, newcomer: Person, outside: Path
) -> None:
    (outside / "tokens").mkdir(mode=0o700)
    service = pam.stack(PASSWORD + enrolling(installed, f"store={outside}/tokens/%U") + MAKES + REST)
    with Talk(service, newcomer, options=SESSION) as talk:
        talk.go_on()
    assert talk.let_in, talk.text
    assert newcomer.home.owner() == newcomer.name
    code = talk.phone.totp()
    for answer, result in (("000000", PAM_AUTH_ERR), (code, PAM_SUCCESS)):
        expected = result if answer != code else None  # the code that confirmed may still be used up
        outcome = in_its_directory(service, newcomer, newcomer.password, answer, options=SESSION)
        assert outcome.prompts[-1].startswith("Verification code")
        assert expected is None or outcome.result == expected


@pytest.mark.lockout(
    "enrol, and the home is made by the first session",
    shows="reason=no_home",
    cure="store=/var/lib/softtoken/%U",
)
def test_enrol__with_the_store_in_the_home_says_what_it_needs(
    pam: Pam, installed: Installation, newcomer: Person, system_log: SystemLog, outside: Path
) -> None:
    service = pam.stack(PASSWORD + enrolling(installed) + MAKES + REST)
    with Talk(service, newcomer, options=SESSION) as talk:
        talk.go_on()
    assert not talk.let_in
    assert "otpauth" not in talk.text
    assert "in your home directory, which is not there yet. Ask an administrator" in talk.text
    refusal = system_log.outcomes()[-1]
    assert (refusal["result"], refusal["reason"]) == ("denied", "no_home")
    assert "set store=/var/lib/softtoken/%U in /etc/security/softtoken.conf" in refusal["detail"]
    (outside / "tokens").mkdir(mode=0o700)
    cured = pam.stack(PASSWORD + enrolling(installed, f"store={outside}/tokens/%U") + MAKES + REST)
    with Talk(cured, newcomer, options=SESSION) as talk:
        talk.go_on()
    assert talk.let_in, talk.text


def test_enrol__with_nullok_lets_a_new_user_in_and_enrols_them_when_the_home_is_there(
    pam: Pam, installed: Installation, newcomer: Person, system_log: SystemLog
) -> None:
    service = pam.stack(PASSWORD + enrolling(installed, "nullok") + MAKES + REST)
    outcome = in_its_directory(service, newcomer, newcomer.password, options=SESSION)
    assert (outcome.result, outcome.account, outcome.session) == (PAM_SUCCESS, PAM_SUCCESS, PAM_SUCCESS)
    with Talk(service, newcomer, options=SESSION) as talk:
        talk.go_on()
    assert talk.let_in, talk.text
    assert "enrolled" in system_log.reasons()
    outcome = in_its_directory(service, newcomer, newcomer.password, "000000", options=SESSION)
    assert outcome.prompts[-1].startswith("Verification code")
    assert outcome.result == PAM_AUTH_ERR


PASSWORD = "auth requisite pam_unix.so nodelay\n"
DEBIAN = (
    "session [default=1] pam_permit.so\nsession requisite pam_deny.so\nsession required pam_permit.so\n"
    "session optional pam_umask.so\n"
)
SKIPPED = "session [success=1 default=ignore] pam_succeed_if.so quiet uid >= 0\n"
SESSIONS = {
    "Debian's common-session": (DEBIAN + MAKES, True),
    "in an included file": ("session include homes\n", True),
    "by an @include": ("@include homes\n", True),
    "in a substack": ("session substack homes\n", True),
    "behind a jump over another line": (SKIPPED + "session optional pam_umask.so\n" + MAKES, True),
    "in both branches of a jump": (SKIPPED + MAKES + MAKES, True),
    "missing": ("", False),
    "in a comment": (f"# {MAKES}", False),
    "of another type": (MAKES.replace("session", "account") + MAKES.replace("session", "password"), False),
    "behind a jump over it": (SKIPPED + MAKES, False),
    "behind a sufficient line": ("session sufficient pam_permit.so\n" + MAKES, False),
    "behind a line that ends a substack": ("session substack ended\n", False),
    "an argument": ("session optional pam_umask.so pam_mkhomedir.so\n", False),
    "without a control": ("session pam_mkhomedir.so\n", False),
    "in a file that is missing": ("session optional pam_umask.so\n-session include nowhere\n", False),
    "in a file that others can write": ("session include open\n", False),
    "beside one that opens locked homes": ("-session optional pam_zfs_key.so\n" + MAKES, False),
    "beside systemd-homed": (MAKES + "-session optional pam_systemd_home.so\n", False),
    "past 1023 bytes of its line": ("session optional pam_umask.so " + 993 * "x" + MAKES, False),
}


@pytest.mark.parametrize("name", SESSIONS)
def test_session__must_make_the_home_whenever_it_opens(
    pam: Pam, installed: Installation, newcomer: Person, system_log: SystemLog, name: str
) -> None:
    lines, makes = SESSIONS[name]
    service = pam.stack(PERMIT + installed.line("nullok") + lines + REST)
    (service.directory / "homes").write_text(MAKES)
    (service.directory / "ended").write_text("session sufficient pam_permit.so\n" + MAKES)
    (service.directory / "open").write_text(MAKES)
    (service.directory / "open").chmod(0o666)
    outcome = in_its_directory(service, newcomer, "000000", options=SESSION)
    assert (outcome.result == PAM_SUCCESS) is makes
    assert (outcome.messages == []) is makes
    assert system_log.reasons() == ["not_enrolled" if makes else "no_home"]
    assert newcomer.home.is_dir() is makes


def test_session__of_another_service_proves_nothing(
    nullok: Service, installed: Installation, newcomer: Person, system_log: SystemLog
) -> None:
    """`nullok` is the only service of its directory that makes homes. This one has the name of another."""
    (nullok.directory / "homes").write_text((nullok.directory / nullok.name).read_text())
    (nullok.directory / nullok.name).write_text(PERMIT + installed.line("nullok") + REST)
    assert in_its_directory(nullok, newcomer, "000000", options=SESSION).result == PAM_AUTH_ERR
    assert "no session line of softtoken-test makes home directories" in system_log.outcomes()[-1]["detail"]


def _moved(person: Person, home: Path) -> None:
    subprocess.run(["usermod", "--home", str(home), person.name], check=True, capture_output=True)


def parent_is_theirs(person: Person) -> None:
    above = person.home / "above"
    above.mkdir(parents=True)
    shutil.chown(above, person.name)
    _moved(person, above / "home")


def parent_of_the_parent_is_theirs(person: Person) -> None:
    above = person.home / "above"
    above.mkdir(parents=True)
    shutil.chown(person.home, person.name)
    _moved(person, above / "home")


def parent_is_open_to_a_group(person: Person) -> None:
    person.home.parent.chmod(0o775)


def parent_is_sticky(person: Person) -> None:
    person.home.parent.chmod(0o1777)


def parent_is_missing(person: Person) -> None:
    _moved(person, person.home / "below")


def parent_is_a_file(person: Person) -> None:
    person.home.write_text("")
    _moved(person, person.home / "below")


def parent_is_closed_to_them(person: Person) -> None:
    person.home.parent.chmod(0o700)


def parent_is_their_link(person: Person) -> None:
    target = person.home.with_name(f"{person.name}-target")
    target.mkdir(mode=0o755)
    person.home.symlink_to(target)
    os.lchown(person.home, person.uid, person.gid)
    person.home.parent.chmod(0o1777)
    _moved(person, person.home / "nowhere")


def link_that_leads_nowhere(person: Person) -> None:
    person.home.symlink_to(f"{person.home}-away")


def link_to_itself(person: Person) -> None:
    person.home.symlink_to(person.home)


def mark_is_set(person: Person) -> None:
    Path(enrolled_mark.path_of(person.uid)).parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    Path(enrolled_mark.path_of(person.uid)).write_text(person.name)


def name_was_accepted_with_another_uid(person: Person) -> None:
    record = Path(account_record.record_of(person.name))
    record.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    record.write_text(f"4242\0{person.name}\0{person.home}\0")


def record_is_damaged(person: Person) -> None:
    name_was_accepted_with_another_uid(person)
    Path(account_record.record_of(person.name)).write_text("damaged")


SCENES: dict[Callable[[Person], None], str] = {
    parent_is_theirs: "belongs to uid",
    parent_of_the_parent_is_theirs: "belongs to uid",
    parent_is_open_to_a_group: "others can write it",
    parent_is_sticky: "others can write it",
    parent_is_missing: "No such file",
    parent_is_a_file: "Not a directory",
    parent_is_closed_to_them: "Permission denied",
    parent_is_their_link: "belongs to uid|link",
    link_that_leads_nowhere: "is a link that leads nowhere",
    link_to_itself: "Too many levels",
    mark_is_set: "has been enrolled before",
    name_was_accepted_with_another_uid: "has been enrolled before",
    record_is_damaged: "has been enrolled before",
}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.claim(
    "A home directory that its user could have removed, or that may only be out of sight, proves nothing."
)
def test_home__that_is_out_of_sight_is_not_taken_for_one_that_was_never_made(
    nullok: Service, newcomer: Person, system_log: SystemLog, scene: Callable[[Person], None]
) -> None:
    scene(newcomer)
    outcome = in_its_directory(nullok, newcomer, "000000", options=SESSION)
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    refusal = system_log.outcomes()[-1]
    assert refusal["result"] == "denied"
    assert refusal["reason"] in ("no_home", "unusable_file")
    assert any(word in refusal["detail"] for word in SCENES[scene].split("|")), refusal["detail"]


_UNIT = r"""mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/generator.late
name=$(printf %%s "${1#/}" | sed 's/-/\\x2d/g; s,/,-,g')
echo >"/run/systemd/generator.late/$name.%s"
"""
# As systemd-gpt-auto-generator(8) does for /home, which has no line in fstab.
_FORGED = r"""echo "UUID=1 $1 ext4 noauto 0 0" >>/etc/fstab
forged="${3%/*}/$(printf 'a\r1\302\2401\302\2400:1\302\240/\302\240')$1"
mkdir -p "$forged"
mount -t tmpfs tmpfs "$forged"
"""
# A user can mount FUSE at such a path, and the kernel writes carriage returns and no-break spaces as they are.
MOUNTS = {
    "of fstab, not mounted, with a mount that looks so": (_FORGED, "is not mounted"),
    "on a tmpfs that hides it": ("mount -t tmpfs -o mode=755 tmpfs $1", "is on tmpfs"),
    "of fstab, not mounted": ('echo "server:/home $1 nfs defaults 0 0" >>/etc/fstab', "is not mounted"),
    "of fstab above it, not mounted": ('echo "UUID=1 ${1%/*} ext4 noauto 0 0" >>/etc/fstab', "is not mounted"),
    "of a unit, not mounted": (_UNIT % "mount", "is not mounted"),
    "of a unit, not mounted yet": (_UNIT % "automount", "is not mounted"),
    "of an automounter that is not running": (
        'echo "$1 x" >"${3%/*}/map"; touch /etc/auto.master; mount --bind "${3%/*}/map" /etc/auto.master',
        "is not mounted",
    ),
    "of fstab for it alone, not mounted": ('echo "/srv/x $1/$2 none bind 0 0" >>/etc/fstab', "is not mounted"),
}


@pytest.mark.parametrize("name", MOUNTS)
def test_home__that_is_not_mounted_is_not_taken_for_one_that_was_never_made(
    nullok: Service, newcomer: Person, system_log: SystemLog, outside: Path, name: str
) -> None:
    step, why = MOUNTS[name]
    fstab = outside / "fstab"
    fstab.write_text(f"# {newcomer.home.parent} is in a comment\nUUID=2 none swap sw 0 0\nUUID=3 / ext4 defaults 0 1\n")
    own = 'touch /etc/fstab; mount --bind "$3" /etc/fstab\n'
    words = (str(newcomer.home.parent), newcomer.name, str(fstab))
    assert log_in_after(own, nullok, newcomer, *words).result == PAM_SUCCESS
    shutil.rmtree(newcomer.home)
    outcome = log_in_after(own + step, nullok, newcomer, *words)
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert why in system_log.outcomes()[-1]["detail"]


def test_home__is_not_judged_by_another_stack_than_the_one_that_runs(
    nullok: Service, newcomer: Person, system_log: SystemLog, outside: Path
) -> None:
    """An application may have a directory of its own, or change the name of its service."""
    shutil.copy(nullok.directory / nullok.name, outside / nullok.name)
    (nullok.directory / nullok.name).write_text(PERMIT + MAKES + REST)
    outcome = in_its_directory(nullok, newcomer, "000000", options=(*SESSION, f"--confdir={outside}"))
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert f"no auth line of {nullok.name} runs this module" in system_log.outcomes()[-1]["detail"]


def test_home__is_not_judged_by_a_service_that_does_not_run_as_root(
    nullok: Service, newcomer: Person, system_log: SystemLog
) -> None:
    as_user = ["setpriv", f"--reuid={newcomer.uid}", f"--regid={newcomer.gid}", "--clear-groups"]
    with Talk(nullok, newcomer, around=as_user) as talk:
        talk.go_on()
    assert not talk.let_in
    assert f"this service runs as uid {newcomer.uid}, and makes no home" in system_log.outcomes()[-1]["detail"]


def test_home__of_a_revoked_user_is_not_taken_for_one_that_was_never_made(
    nullok: Service, installed: Installation, newcomer: Person, system_log: SystemLog
) -> None:
    succeeded(Admin(installed).run("revoke", newcomer.name, "--yes"))
    Path(enrolled_mark.path_of(newcomer.uid)).unlink(missing_ok=True)
    Path(account_record.record_of(newcomer.name)).unlink(missing_ok=True)
    outcome = in_its_directory(nullok, newcomer, "000000", options=SESSION)
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert "has been enrolled before" in system_log.outcomes()[-1]["detail"]


def test_home__that_is_missing_is_asked_about_by_no_service_that_lets_nobody_in_without_a_token(
    pam: Pam, installed: Installation, newcomer: Person, system_log: SystemLog
) -> None:
    service = pam.stack(PERMIT + installed.line() + MAKES + REST)
    outcome = in_its_directory(service, newcomer, "000000", options=SESSION)
    assert (outcome.result, outcome.prompts) == (PAM_AUTH_ERR, [text for style, text in PROMPT if style == ECHO_OFF])
    assert system_log.reasons() == ["no_home"]
    detail = system_log.outcomes()[-1]["detail"]
    assert detail == f'"{newcomer.home}: {_MISSING}; as root: mkhomedir_helper {newcomer.name}"'
