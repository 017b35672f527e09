"""Enrolment in the login: stacks in a bad order, hostile homes, full disks, kills, several logins at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.account import enrolled_mark
from tests.support.account import Person
from tests.support.admin import Admin, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_CONV_ERR, PAM_IGNORE, PAM_SUCCESS, PERMIT, TEXT_INFO, Service
from tests.support.disk import disk_as_home, fill
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, Enroller
from tests.support.installation import Installation
from tests.support.newcomer import ENROLS, Talk, in_its_directory, lines
from tests.support.pam_scene import Pam, wait_until
from tests.support.system_log import SystemLog

UNIX = "auth {} pam_unix.so nodelay\n"
ACCOUNT = "account required pam_permit.so\n"
MARKS = Path("/var/lib/softtoken/enrolled")
DEBIAN = UNIX.format("[success=1 default=ignore]") + "auth requisite pam_deny.so\n" + PERMIT
FRONTS = {
    "common-auth": DEBIAN,
    **{control: UNIX.format(control) for control in ("required", "requisite", "sufficient", "optional")},
    "required, behind a formality": PERMIT + UNIX.format("required"),
    "optional, behind a formality": PERMIT + UNIX.format("optional"),
    "nothing": "",
}
SAFE = ["common-auth", "required", "requisite", "required, behind a formality"]


@pytest.fixture
def enrols(pam: Pam, installed: Installation) -> Service:
    """A service in which users enrol in the login, after a password."""
    return pam.stack(UNIX.format("requisite") + lines(installed) + ACCOUNT)


@pytest.mark.parametrize("behind", ["", PERMIT], ids=["nothing behind", "pam_permit behind"])
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.claim(
    "A user who enrols in a login has passed the first factor. In a badly ordered stack nobody enrols, "
    "and nobody is shown a key."
)
def test_front__with_a_wrong_password_nobody_enrols_or_sees_a_key(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog, front: str, behind: str
) -> None:
    service = pam.stack(FRONTS[front] + lines(installed) + behind + ACCOUNT)
    with Talk(service, alice) as talk:
        talk.go_on(password="wrong")
    assert not talk.let_in
    assert "otpauth" not in talk.text
    assert ENROLS not in talk.text
    assert not alice.store.exists()
    assert not (MARKS / str(alice.uid)).exists()
    assert "enrolled" not in system_log.reasons()


@pytest.mark.parametrize("front", FRONTS)
def test_front__with_the_right_password_a_user_enrols_only_in_a_safe_stack(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog, front: str
) -> None:
    service = pam.stack(FRONTS[front] + lines(installed) + PERMIT + ACCOUNT)
    with Talk(service, alice) as talk:
        talk.go_on()
    assert ("enrolled" in system_log.reasons()) is (front in SAFE)
    assert talk.let_in is (front in SAFE or front == "sufficient")
    assert (alice.store / "tokens").exists() is (front in SAFE)


@pytest.mark.parametrize("front", SAFE)
def test_front__with_a_wrong_password_changes_nothing_of_an_enrolment(
    pam: Pam, installed: Installation, alice: Person, front: str
) -> None:
    service = pam.stack(FRONTS[front] + lines(installed) + ACCOUNT)
    phone = alice.enrol(installed, "--period=300")
    before = (alice.store / "tokens").read_bytes()
    with Talk(service, alice) as talk:
        talk.go_on(password="wrong")
    assert not talk.let_in
    assert "otpauth" not in talk.text
    assert (alice.store / "tokens").read_bytes() == before
    assert in_its_directory(service, alice, alice.password, phone.totp()).account == PAM_SUCCESS


ACCOUNT_LINES: dict[str, Callable[[str], str]] = {
    "missing": lambda ours: ACCOUNT,
    "optional": lambda ours: ours.replace("required", "optional") + ACCOUNT,
    "behind a sufficient one": lambda ours: "account sufficient pam_permit.so\n" + ours,
    "behind a jump": lambda ours: "account [success=1 default=ignore] pam_permit.so\n" + ours + ACCOUNT,
    "in an included file": lambda ours: ours,
}


@pytest.mark.parametrize("place", ACCOUNT_LINES)
def test_account_line__that_can_be_passed_by_lets_nobody_in(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog, place: str
) -> None:
    auth, account = lines(installed).splitlines(keepends=True)
    service = pam.stack(DEBIAN + auth + ACCOUNT_LINES[place](account))
    if place == "in an included file":
        (service.directory / "ours").write_text("account required pam_permit.so\n" + account)
        (service.directory / service.name).write_text(DEBIAN + auth + "account include ours\n@include ours\n")
    with Talk(service, alice) as talk:
        talk.go_on()
    assert talk.let_in is (place == "in an included file"), talk.text
    assert system_log.reasons()[-1] == ("enrolled" if talk.let_in else "not_enrolled")


def test_account_line__without_the_option_denies(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    auth, account = lines(installed).splitlines(keepends=True)
    service = pam.stack(DEBIAN + auth + account.replace(" enrol", "") + ACCOUNT)
    with Talk(service, alice) as talk:
        talk.go_on()
    assert not talk.let_in
    assert "otpauth" not in talk.text
    assert system_log.reasons() == ["not_enrolled", "bad_option"]


def test_service__read_from_another_directory_enrols_nobody(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    service = pam.stack(DEBIAN + lines(installed) + ACCOUNT)
    outcome = service.log_in(alice, alice.password, "000000", options=["--account"])
    assert outcome.result == PAM_AUTH_ERR
    assert system_log.reasons() == ["not_enrolled"]


@pytest.mark.parametrize(("day", "enrols"), [("2999-01-15", False), ("2000-01-15", True)])
def test_required_from__reminds_until_its_day_and_enrols_from_that_day_on(
    pam: Pam, installed: Installation, alice: Person, day: str, enrols: bool
) -> None:
    service = pam.stack(UNIX.format("requisite") + lines(installed, f"required_from={day}") + ACCOUNT)
    with Talk(service, alice) as talk:
        talk.go_on()
    assert talk.let_in
    assert (f"From {day} on" in talk.text, ENROLS in talk.text) == (not enrols, enrols)
    assert (alice.store / "tokens").exists() is enrols


def test_account_phase__without_authentication_does_nothing(
    enrols: Service, alice: Person, system_log: SystemLog
) -> None:
    outcome = in_its_directory(enrols, alice, options=["--no-authenticate"])
    assert (outcome.account, outcome.messages) == (PAM_SUCCESS, [])
    assert system_log.ours() == []
    assert not alice.store.exists()


def test_newcomer__sees_no_message_longer_than_an_application_must_show(enrols: Service, alice: Person) -> None:
    with Talk(enrols, alice) as talk:
        talk.go_on()
    assert talk.let_in
    assert talk.outcome is not None
    texts = [text for style, text in talk.outcome.messages if style == TEXT_INFO]
    assert 10 < len(texts) < 50
    assert max(len(text.encode()) for text in texts) < 512
    key = talk.phone.record["key"]
    assert "Key:  " + " ".join(str(key)[place : place + 4] for place in range(0, len(str(key)), 4)) in texts


def test_newcomer__is_marked_and_can_log_in_with_the_next_code_only(
    enrols: Service, installed: Installation, pam: Pam, alice: Person, system_log: SystemLog
) -> None:
    with Talk(enrols, alice) as talk:
        talk.go_on(until=CODE_PROMPT)
        code = talk.phone.totp()
        talk.answer(code)
        talk.go_on()
    assert talk.let_in
    assert (MARKS / str(alice.uid)).exists()
    for path, mode in ((alice.store, 0o40700), (alice.store / "tokens", 0o100600), (alice.store / "state", 0o100600)):
        assert (path.stat().st_uid, path.stat().st_mode) == (alice.uid, mode)
    service = pam.service()
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, talk.phone.totp(1)).result == PAM_SUCCESS
    assert service.log_in(alice, talk.phone.recovery_codes[9]).result == PAM_SUCCESS
    shutil.rmtree(alice.store)
    assert pam.only_ignore("nullok").log_in(alice, "000000").result == PAM_AUTH_ERR
    assert system_log.reasons() == ["not_enrolled", "enrolled", "replayed", "accepted", "recovery", "not_enrolled"]


def test_newcomer__without_an_enrolment_is_not_marked(enrols: Service, alice: Person) -> None:
    outcome = in_its_directory(enrols, alice, alice.password, "1", "2", "3")
    assert (outcome.result, outcome.account) == (PAM_SUCCESS, PAM_AUTH_ERR)
    assert not (MARKS / str(alice.uid)).exists()


def test_newcomer__without_an_answer_is_refused(enrols: Service, alice: Person, system_log: SystemLog) -> None:
    outcome = in_its_directory(enrols, alice, alice.password)
    assert outcome.account == PAM_CONV_ERR
    assert system_log.reasons() == ["not_enrolled", "conversation"]
    assert not alice.store.exists()


def test_newcomer__with_a_short_timeout_has_time_for_all_hashes(
    pam: Pam, installed: Installation, alice: Person
) -> None:
    service = pam.stack(DEBIAN + lines(installed, "timeout=1") + ACCOUNT)
    with Talk(service, alice) as talk:
        talk.go_on()
    assert talk.let_in, talk.text


def test_newcomer__of_a_root_held_store_has_the_files_there(
    pam: Pam, installed: Installation, alice: Person, outside: Path
) -> None:
    service = pam.stack(DEBIAN + lines(installed, f"store={outside}/%U") + ACCOUNT)
    with Talk(service, alice) as talk:
        talk.go_on()
    assert talk.let_in, talk.text
    assert (outside / str(alice.uid) / "tokens").stat().st_uid == 0
    assert not alice.store.exists()
    outcome = in_its_directory(service, alice, alice.password, talk.phone.totp(1))
    assert (outcome.result, outcome.account) == (PAM_SUCCESS, PAM_SUCCESS)


def test_silent_application__is_answered_as_without_the_option(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    service = pam.stack(DEBIAN + lines(installed) + ACCOUNT)
    outcome = in_its_directory(service, alice, alice.password, "000000", options=["--silent"])
    assert (outcome.result, outcome.prompts[-1]) == (PAM_AUTH_ERR, "Verification code: ")
    assert system_log.reasons() == ["not_enrolled"]


def test_application_without_root__enrols_nobody(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    service = pam.stack(lines(installed) + PERMIT + ACCOUNT)
    assert service.log_in(alice, "000000", run_as=alice, options=["--account"]).result == PAM_AUTH_ERR
    assert any("does not run as root" in line for line in system_log.ours())


def test_qr_code__is_left_out_if_another_user_owns_segno(enrols: Service, alice: Person, outside: Path) -> None:
    packages = outside / "dist-packages"
    (packages / "segno").mkdir(parents=True)
    (packages / "segno" / "__init__.py").write_text(f"open({str(outside / 'tale')!r}, 'w')\n")
    os.chown(packages / "segno", alice.uid, alice.gid)
    script = f'mount --bind {packages} /usr/lib/python3/dist-packages && exec "$@"'
    with Talk(enrols, alice, around=["sh", "-c", script, "sh"]) as talk:
        talk.go_on()
    assert talk.let_in
    assert "▀" not in talk.text
    assert "Type this key into an authenticator app:" in talk.text
    assert not (outside / "tale").exists()


# ---- hostile homes


def _link(alice: Person, outside: Path) -> None:
    alice.store.symlink_to(outside)


def _of_somebody_else(alice: Person, outside: Path) -> None:
    alice.store.mkdir(mode=0o700)


def _state_is_a_fifo(alice: Person, outside: Path) -> None:
    _own(alice, alice.store, "mkdir")
    os.mkfifo(alice.store / "state")
    os.chown(alice.store / "state", alice.uid, alice.gid)


def _state_is_a_link(alice: Person, outside: Path) -> None:
    _own(alice, alice.store, "mkdir")
    (outside / "victim").write_text("root's")
    (alice.store / "state").symlink_to(outside / "victim")


def _state_is_a_directory(alice: Person, outside: Path) -> None:
    _own(alice, alice.store, "mkdir")
    _own(alice, alice.store / "state", "mkdir")


def _state_is_roots(alice: Person, outside: Path) -> None:
    _own(alice, alice.store, "mkdir")
    (alice.store / "state").touch(0o600)


def _home_is_open(alice: Person, outside: Path) -> None:
    alice.home.chmod(0o775)


def _own(alice: Person, path: Path, how: str) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, alice.uid, alice.gid)


HOSTILE = [
    _link,
    _of_somebody_else,
    _state_is_a_fifo,
    _state_is_a_link,
    _state_is_a_directory,
    _state_is_roots,
    _home_is_open,
]


@pytest.mark.parametrize("prepare", HOSTILE, ids=lambda prepare: prepare.__name__.strip("_"))
def test_hostile_home__denies_and_touches_nothing(
    enrols: Service, alice: Person, outside: Path, system_log: SystemLog, prepare: Callable[[Person, Path], None]
) -> None:
    prepare(alice, outside)
    before = _everything(alice.home) | _everything(outside)
    with Talk(enrols, alice) as talk:
        talk.go_on()
    assert not talk.let_in
    assert "otpauth" not in talk.text
    assert _everything(alice.home) | _everything(outside) == before
    assert system_log.reasons()[-1] in ("insecure_file", "unusable_file")


@pytest.mark.parametrize("prepare", HOSTILE[:6], ids=lambda prepare: prepare.__name__.strip("_"))
def test_home__that_turns_hostile_during_the_dialogue_denies_and_touches_nothing(
    enrols: Service, alice: Person, outside: Path, system_log: SystemLog, prepare: Callable[[Person, Path], None]
) -> None:
    with Talk(enrols, alice) as talk:
        talk.go_on(until=ENTER_PROMPT)
        prepare(alice, outside)
        before = _everything(alice.home) | _everything(outside)
        talk.answer("")
        talk.go_on()
    assert not talk.let_in
    assert "The new token could not be stored; nothing was changed." in talk.text
    assert _everything(alice.home) | _everything(outside) == before
    assert system_log.reasons()[-1] in ("insecure_file", "unusable_file")


def _everything(directory: Path) -> dict[str, tuple[int, ...]]:
    """Record everything below a directory: kind and mode, owner, links, size and inode."""
    found: dict[str, tuple[int, ...]] = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.lstat()
        size = status.st_size if path.is_file() else 0
        found[str(path)] = (status.st_mode, status.st_uid, status.st_nlink, size, status.st_ino)
    return found


# ---- disks, kills, several at once


def test_full_disk__denies_before_anything_is_shown(enrols: Service, alice: Person, system_log: SystemLog) -> None:
    with disk_as_home(alice):
        fill(alice.home)
        with Talk(enrols, alice) as talk:
            talk.go_on()
        assert not talk.let_in
        assert "otpauth" not in talk.text
        assert "a soft token for it cannot be stored now" in talk.text
        assert {path.name for path in alice.home.iterdir()} == {"filler"}
        assert system_log.reasons()[-1] in ("not_stored", "unusable_file")
        assert "No space left on device" in system_log.ours()[-1]


def test_key__is_in_no_file_before_it_is_confirmed(enrols: Service, alice: Person, outside: Path) -> None:
    trace = outside / "trace"
    around = ("strace", "--follow-forks", "-s", "65536", "-o", str(trace), "-e", "trace=pwrite64")
    with Talk(enrols, alice, around=around) as talk:
        talk.go_on(until=CODE_PROMPT)
        before, key = trace.read_text(), str(talk.phone.record["key"])
        talk.answer(talk.phone.totp())
        talk.go_on()
    assert talk.let_in
    assert "pwrite64(" in before, "the room is tried before"
    assert key not in before
    assert key in trace.read_text(), "and the trace shows what is written"


def test_disk__that_gets_full_during_the_dialogue_denies_and_the_next_login_enrols(
    enrols: Service, alice: Person, system_log: SystemLog
) -> None:
    with disk_as_home(alice):
        with Talk(enrols, alice) as talk:
            talk.go_on(until=ENTER_PROMPT)
            fill(alice.home)
            talk.answer("")
            talk.go_on()
        assert not talk.let_in
        assert "The new token could not be stored; nothing was changed." in talk.text
        assert "No space left on device" in system_log.ours()[-1]
        (alice.home / "filler").unlink()
        assert list(alice.home.iterdir()) == []
        with Talk(enrols, alice) as talk:
            talk.go_on()
        assert talk.let_in


WRITES = {
    "mkdir,mkdirat": range(1, 4),
    "pwrite64": range(1, 6),
    "fdatasync": range(1, 6),
    "fsync": range(3, 9),
    "rename,renameat,renameat2": range(1, 2),
    "unlink,unlinkat": range(1, 3),
}


@pytest.mark.parametrize(("call", "number"), [(call, number) for call, numbers in WRITES.items() for number in numbers])
@pytest.mark.lockout("a login in which its user enrols is killed while it stores the token")
@pytest.mark.claim("Whatever ends an enrolment in the login leaves the user enrolled or as before.")
@pytest.mark.sampled(0.3)
def test_kill__leaves_the_newcomer_enrolled_or_as_before(
    enrols: Service, pam: Pam, alice: Person, call: str, number: int
) -> None:
    """strace kills a process before the call takes effect. If there are fewer calls, nothing is killed."""
    around = [
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:signal=KILL:when={number}",
    ]
    with Talk(enrols, alice, around=around) as talk:
        talk.go_on()
    if (alice.store / "tokens").exists():
        assert pam.service().log_in(alice, talk.phone.totp(1)).result == PAM_SUCCESS
        assert pam.service().log_in(alice, talk.phone.recovery_codes[0]).result == PAM_SUCCESS
        return
    assert not talk.let_in
    with Talk(enrols, alice) as again:
        again.go_on()
    assert again.let_in, again.text
    assert pam.service().log_in(alice, again.phone.totp(1)).result == PAM_SUCCESS


@pytest.mark.lockout("the disk fails while a login in which its user enrols syncs the token")
def test_sync_that_fails__denies_and_tells_the_user_to_keep_a_token_that_is_in_place(
    enrols: Service, pam: Pam, alice: Person
) -> None:
    for number in range(3, 15):
        inject = ("-e", "trace=fsync", "-e", f"inject=fsync:error=EIO:when={number}")
        with Talk(enrols, alice, around=("strace", "-f", "-o", "/dev/null", *inject)) as talk:
            talk.go_on()
        assert not talk.let_in, "there was no such call"
        if (alice.store / "tokens").exists():
            break
        assert "nothing was changed" in talk.text or "cannot be stored now" in talk.text
    assert "Keep it in the app, and log in with its next code." in talk.text
    assert "nothing was changed" not in talk.text
    assert pam.service().log_in(alice, talk.phone.totp(1)).result == PAM_SUCCESS


@pytest.mark.parametrize("question", [CODE_PROMPT, ENTER_PROMPT])
def test_application__killed_during_the_dialogue_leaves_no_file(enrols: Service, alice: Person, question: str) -> None:
    with Talk(enrols, alice) as talk:
        talk.go_on(until=question)
        os.kill(talk.pid, signal.SIGKILL)
        wait_until(lambda: str(enrols.installed.backend) not in _command_lines(), "the end of the backend")
    assert not alice.store.exists()


def _command_lines() -> str:
    done = subprocess.run(["ps", "-e", "-o", "args="], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.mark.claim("Whatever ends an enrolment in the login leaves the user enrolled or as before.")
def test_logins_at_once__enrol_one_of_them(enrols: Service, pam: Pam, alice: Person, system_log: SystemLog) -> None:
    with Talk(enrols, alice) as one, Talk(enrols, alice) as other, Talk(enrols, alice) as third:
        talks = [one, other, third]
        for talk in talks:
            talk.go_on(until=ENTER_PROMPT)
        for talk in talks:
            talk.answer("")
        for talk in talks:
            talk.go_on()
    (winner,) = [talk for talk in talks if talk.let_in]
    assert all("nothing was changed" in talk.text for talk in talks if talk is not winner)
    assert sorted(system_log.reasons()) == ["enrolled", "enrolment", "enrolment", *3 * ["not_enrolled"]]
    assert pam.service().log_in(alice, winner.phone.totp(1)).result == PAM_SUCCESS
    assert pam.service().log_in(alice, winner.phone.recovery_codes[0]).result == PAM_SUCCESS


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("program", marks=pytest.mark.lockout("root enrols a user who is enrolling in a login")),
        pytest.param("login", marks=pytest.mark.lockout("a user enrols in a login and with softtoken-enroll at once")),
    ],
)
def test_login_and_program_at_once__one_enrols_and_the_other_says_that_it_has_not(
    enrols: Service, installed: Installation, pam: Pam, alice: Person, first: str
) -> None:
    program = Enroller(installed.enroll)
    with Talk(enrols, alice) as talk, program.start("--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        dialogue.type(dialogue.phone().totp())
        dialogue.expect(ENTER_PROMPT)
        talk.go_on(until=ENTER_PROMPT)
        if first == "program":
            dialogue.type("")
            assert dialogue.finish() == 0
            talk.answer("")
            talk.go_on()
            assert not talk.let_in
            assert "Not enrolled; nothing was changed." in talk.text
        else:
            talk.answer("")
            talk.go_on()
            assert talk.let_in, talk.text
            dialogue.type("")
            assert "nothing was changed" in dialogue.refused().error
        winner = dialogue.phone() if first == "program" else talk.phone
        loser = talk.phone if first == "program" else dialogue.phone()
    assert pam.service().log_in(alice, loser.totp(1)).result == PAM_AUTH_ERR
    assert pam.service().log_in(alice, winner.totp(1)).result == PAM_SUCCESS


def test_auth_line__says_ignore_and_never_yes(pam: Pam, installed: Installation, alice: Person) -> None:
    """No module of this stack accepts. After the right password pam_unix only jumps over pam_deny."""
    service = pam.stack(DEBIAN.removesuffix(PERMIT) + lines(installed) + ACCOUNT)
    outcome = in_its_directory(service, alice, alice.password)
    assert (outcome.result, outcome.account, outcome.prompts) == (6, -1, ["Password: "])  # PAM_PERM_DENIED


def test_account_phase__says_ignore_and_never_yes(pam: Pam, installed: Installation, alice: Person) -> None:
    """A module that enrols cannot replace a module that checks the account."""
    auth, account = lines(installed).splitlines(keepends=True)
    service = pam.stack(DEBIAN + auth + account)
    with Talk(service, alice) as talk:
        talk.go_on()
    assert (alice.store / "tokens").exists()
    assert talk.outcome is not None
    assert talk.outcome.account not in (PAM_SUCCESS, PAM_IGNORE)


def _two_lines(pam: Pam, installed: Installation) -> Service:
    return pam.stack(UNIX.format("requisite") + lines(installed) + PERMIT + ACCOUNT)


def test_account_phase__of_a_user_not_authenticated_enrols_and_lets_in_nobody(
    pam: Pam, installed: Installation, alice: Person, make_person: Callable[[], Person], system_log: SystemLog
) -> None:
    bob = make_person()
    outcome = in_its_directory(
        _two_lines(pam, installed), alice, alice.password, "000000", options=[f"--user-between={bob.name}"]
    )
    assert (outcome.result, outcome.account) == (PAM_SUCCESS, PAM_AUTH_ERR)
    assert len(outcome.prompts) == 1
    assert not alice.store.exists()
    assert not bob.store.exists()
    assert system_log.reasons()[-1] == "enrolment"


@pytest.mark.parametrize("prompt", [2, 3], ids=["the code", "the recovery codes"])
def test_account_phase__user_changed_at_a_prompt_is_not_enrolled_and_not_let_in(
    pam: Pam,
    installed: Installation,
    alice: Person,
    make_person: Callable[[], Person],
    system_log: SystemLog,
    prompt: int,
) -> None:
    bob = make_person()
    with Talk(_two_lines(pam, installed), alice, options=[f"--user-at={prompt}:{bob.name}"]) as talk:
        talk.go_on()
    assert not talk.let_in
    assert not bob.store.exists()
    assert not (MARKS / str(bob.uid)).exists()
    assert system_log.reasons()[-1] == "backend"


@pytest.mark.parametrize("is_marked", [True, False], ids=["marked", "without the mark"])
@pytest.mark.parametrize("question", [CODE_PROMPT, ENTER_PROMPT], ids=["the code", "the recovery codes"])
def test_newcomer__revoked_during_the_dialogue_is_not_enrolled(
    enrols: Service,
    pam: Pam,
    installed: Installation,
    alice: Person,
    system_log: SystemLog,
    question: str,
    is_marked: bool,
) -> None:
    """Otherwise an attacker with the password could hold a login open and enrol after the revocation."""
    with Talk(enrols, alice) as talk:
        talk.go_on(until=question)
        succeeded(Admin(installed).run("revoke", alice.name, "--force", "--yes"))
        if not is_marked:
            enrolled_mark.forget(alice.uid)
        talk.answer(talk.phone.totp() if question == CODE_PROMPT else "")
        talk.go_on()
    assert not talk.let_in
    assert not alice.store.exists()
    assert system_log.reasons()[-1] == "enrolment"
    assert pam.service("nullok").log_in(alice, talk.phone.totp(1)).result == PAM_AUTH_ERR


def test_newcomer__enrolled_by_root_between_the_two_phases_sees_no_key(
    pam: Pam, installed: Installation, alice: Person, outside: Path, system_log: SystemLog
) -> None:
    words = "--no-confirm --json --qr=none --recovery-codes=0"
    script = outside / "enrol"
    script.write_text(f"#!/bin/sh\nexec {installed.enroll} --user {alice.name} {words} >/dev/null\n")
    script.chmod(0o700)
    between = f"auth required pam_exec.so quiet {script}\n"
    auth, account = lines(installed).splitlines(keepends=True)
    with Talk(pam.stack(UNIX.format("requisite") + auth + between + PERMIT + account + ACCOUNT), alice) as talk:
        talk.go_on()
    assert (alice.store / "tokens").exists()
    assert not talk.let_in
    assert "otpauth" not in talk.text
    assert system_log.reasons()[-1] == "enrolment"
