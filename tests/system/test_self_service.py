"""Use tokens that root keeps: users help themselves through the real sudo, and a program of the user's gains nothing.

Such a program even knows the user's password here. It lacks only a code.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.account import enrolled_mark
from pam_softtoken.account.state import State
from pam_softtoken.account.state_format import decode
from pam_softtoken.login import throttle
from tests.support.account import Person, Phone
from tests.support.admin import Admin, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import (
    CHECK_PROMPT,
    CODE_PROMPT,
    ENTER_PROMPT,
    ENVIRONMENT,
    TOKEN_PROMPT,
    Dialogue,
    Enroller,
    Mistake,
    recovery_codes_in,
)
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.private_mounts import PrivateMounts
from tests.support.process import descendants, processes, wait_until
from tests.support.root_store import RULE, RootStore
from tests.system.test_set_uid_hosts import Traps

SELF = ("/usr/bin/sudo", "--", "/usr/bin/softtoken-enroll", "--self")
MARKS = Path("/var/lib/softtoken/enrolled")
WITH_FULL_STDOUT = """
import os, sys
reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while True:
        os.write(writer, bytes(4096))
except BlockingIOError:
    pass
os.set_blocking(writer, True)
os.set_inheritable(reader, True)
os.dup2(writer, 1)
os.execv(sys.argv[1], sys.argv[1:])
"""
NEW_PIN = ("New PIN, 4 to 16 letters and digits: ", "The same again: ")
KEY = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@pytest.fixture
def host(mounts: PrivateMounts, installed: Installation) -> RootStore:
    """The host."""
    return RootStore(mounts, installed)


@pytest.fixture
def service(make_service: Callable[[str], Service], installed: Installation, host: RootStore) -> Service:
    """A service that uses the token store of that host."""
    return make_service(installed.line(f"store={host.template}"))


@pytest.fixture
def phone(alice: Person, installed: Installation, host: RootStore) -> Phone:
    """A token of Alice's in root's store, with two recovery codes."""
    return alice.enrol(installed, "--type=hotp", "--recovery-codes=2", f"--store={host.template}")


def refusal(dialogue: Dialogue) -> Mistake:
    """Wait for the end of the program, and return its message."""
    assert dialogue.finish() == 1, dialogue.transcript
    return Mistake(dialogue.transcript)


def test_self__rule_for_sudo_is_valid() -> None:
    done = subprocess.run(["visudo", "--check", "--strict", f"--file={RULE}"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_self__user_enrols_and_root_owns_the_files(host: RootStore, alice: Person, service: Service) -> None:
    with host.start(alice, "--recovery-codes=2") as dialogue:
        phone = dialogue.confirm()
    store = host.store_of(alice)
    for path, mode in ((store, 0o700), (store / "tokens", 0o600), (store / "state", 0o600)):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (0, mode)
    assert not alice.store.exists()
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    for name in ("tokens", "state"):
        done = subprocess.run(host.command(alice, "cat", store / name), capture_output=True, check=False)
        assert done.returncode == 1


def test_self__every_tool_works_for_its_caller(host: RootStore, alice: Person, phone: Phone, service: Service) -> None:
    def play(*options: str) -> str:
        with host.start(alice, *options) as dialogue:
            while prompt := dialogue.expect_any(TOKEN_PROMPT, CODE_PROMPT, CHECK_PROMPT, ENTER_PROMPT, *NEW_PIN):
                if prompt == ENTER_PROMPT:
                    dialogue.type("")
                elif prompt == CODE_PROMPT:
                    new = dialogue.phone()
                    dialogue.type(new.totp())
                elif prompt in NEW_PIN:
                    dialogue.type("4711")
                else:
                    dialogue.type(phone.hotp())
            assert dialogue.finish() == 0, dialogue.transcript
            return dialogue.transcript

    assert "phone  hotp" in play("--list")
    assert "Accepted" in play("--check")
    assert 'another token, "spare"' in play("--name=spare")
    assert '"spare" is gone' in play("--remove=spare")
    codes = recovery_codes_in(play("--new-recovery-codes", "--recovery-codes=2"))
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    assert service.log_in(alice, codes[0]).result == PAM_SUCCESS
    (alice.home / "uri").write_text(f"otpauth://totp/x:y?secret={KEY}&issuer=x\n")
    assert "enrolled with" in play("--import=uri")
    assert "in front of each code" in play("--pin")
    assert service.log_in(alice, "4711" + phone.hotp()).result == PAM_SUCCESS


def test_self__replacing_a_token_needs_a_code_or_a_recovery_code(
    host: RootStore, alice: Person, phone: Phone, service: Service
) -> None:
    with host.start(alice, "--force", "--recovery-codes=1") as dialogue:
        dialogue.expect('This replaces "phone" and the recovery codes.')
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.recovery_codes[0])
        new = dialogue.confirm()
    assert service.log_in(alice, phone.hotp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, new.totp(1)).result == PAM_SUCCESS


WITHOUT_A_CODE = {
    "replace": ["--force"],
    "replace at once": ["--force", "--no-confirm"],
    "replace at once with a known key": ["--force", "--no-confirm", "--key-file=key"],
    "add": ["--name=spare"],
    "add at once": ["--name=spare", "--no-confirm", "--json"],
    "remove": ["--remove=phone", "--force"],
    "remove at once": ["--remove=phone", "--force", "--no-confirm"],
    "recovery codes": ["--new-recovery-codes"],
    "recovery codes at once": ["--new-recovery-codes", "--no-confirm", "--json"],
    "PIN": ["--pin"],
    "import": ["--import=uri"],
    "import at once": ["--import=uri", "--no-confirm"],
}


@pytest.mark.parametrize("attempt", WITHOUT_A_CODE)
@pytest.mark.claim(
    "A program that runs as the user and knows the password cannot read, replace, remove or add tokens "
    "that root keeps without a code."
)
def test_self__changes_nothing_without_a_code(
    host: RootStore, alice: Person, phone: Phone, service: Service, attempt: str
) -> None:
    (alice.home / "key").write_text(KEY)
    (alice.home / "uri").write_text(f"otpauth://totp/x:y?secret={KEY}&issuer=x\n")
    tokens = (host.store_of(alice) / "tokens").read_bytes()
    with host.start(alice, *WITHOUT_A_CODE[attempt]) as dialogue:
        for code in ("000000", "", "AAAA-AAAA-AAAA"):
            if not dialogue.expect_any(TOKEN_PROMPT):
                break
            dialogue.type(code)
        refusal(dialogue)
    assert recovery_codes_in(dialogue.transcript.replace("AAAA-AAAA-AAAA", "")) == []
    assert (host.store_of(alice) / "tokens").read_bytes() == tokens
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_self__codes_count_for_the_user_whether_right_or_wrong(host: RootStore, alice: Person, phone: Phone) -> None:
    """They are not counted as root's."""

    def state() -> State:
        path = host.store_of(alice) / "state"
        return decode(path.read_bytes(), path=str(path))[1]

    for options, prompt in ((["--name=spare"], TOKEN_PROMPT), (["--check"], CHECK_PROMPT)):
        with host.start(alice, *options) as dialogue:
            dialogue.expect(prompt)
            dialogue.type("00000000")
            dialogue.expect_any(prompt)
            dialogue.press_control("C")
            dialogue.finish()
    assert state().wrong[throttle.LOCAL][0] == 2
    for options, prompt in (
        (["--new-recovery-codes", "--recovery-codes=0"], TOKEN_PROMPT),
        (["--check"], CHECK_PROMPT),
    ):
        with host.start(alice, *options) as dialogue:
            dialogue.expect(prompt)
            dialogue.type(phone.hotp())
            assert dialogue.finish() == 0
        assert list(state().sources) == [throttle.source_of("", alice.uid).name]


@pytest.mark.claim("A user who had a token gets no new one by the password alone.")
def test_self__first_token_is_refused_to_a_user_with_a_former_one(
    host: RootStore, alice: Person, phone: Phone, service: Service
) -> None:
    """The password alone must not restore a token that root has removed, for instance as stolen."""
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
    (host.store_of(alice) / "tokens").unlink()
    (alice.home / "uri").write_text(f"otpauth://totp/x:y?secret={KEY}&issuer=x\n")
    for options in ([], ["--no-confirm"], ["--force"], ["--import=uri", "--no-confirm"]):
        with host.start(alice, *options) as dialogue:
            mistake = refusal(dialogue)
        assert "has been enrolled before" in mistake.error
        assert mistake.hint.endswith(f"softtoken-enroll --user {alice.name}")
        assert not (host.store_of(alice) / "tokens").exists()


@pytest.mark.parametrize("is_marked", [True, False], ids=["marked", "without the mark"])
@pytest.mark.parametrize("option", ["--import=uri", "--name=phone"])
def test_self__user_revoked_during_the_dialogue_is_not_enrolled(
    host: RootStore, installed: Installation, alice: Person, service: Service, option: str, is_marked: bool
) -> None:
    """The mark alone is not enough either: after a revocation, root itself enrols the user."""
    alice.forget_on_the_host()
    (alice.home / "uri").write_text(f"otpauth://totp/x:y?secret={KEY}&issuer=x\n")
    with host.start(alice, option) as dialogue:
        prompt = dialogue.expect_any(CODE_PROMPT, ENTER_PROMPT)
        succeeded(Admin(installed).run("revoke", alice.name, "--force", "--yes", f"--store={host.template}"))
        if not is_marked:
            enrolled_mark.forget(alice.uid)
        if prompt == CODE_PROMPT:
            dialogue.type(dialogue.phone().totp())
            dialogue.expect(ENTER_PROMPT)
        dialogue.type("")
        mistake = refusal(dialogue)
    reasons = ("has been enrolled before", "has changed the tokens") if is_marked else ("has revoked",)
    assert any(reason in mistake.error for reason in reasons), mistake.error
    assert not (host.store_of(alice) / "tokens").exists()


def test_self__unreadable_token_file_cannot_be_replaced_with_force(
    host: RootStore, alice: Person, phone: Phone
) -> None:
    (host.store_of(alice) / "tokens").write_text("torn")
    with host.start(alice, "--force", "--no-confirm") as dialogue:
        assert "administrator" in refusal(dialogue).hint
    assert (host.store_of(alice) / "tokens").read_text() == "torn"


SMUGGLED = {
    "not --self": ["--user=root"],
    "nothing": [],
    "somebody else before": ["--user=root", "--self"],
    "somebody else in the place of --self": ["--self=x"],
    "another program": ["../softtoken-enroll", "--self"],
}


@pytest.mark.parametrize("words", SMUGGLED.values(), ids=SMUGGLED)
@pytest.mark.claim(
    "A program that runs as the user and knows the password cannot read, replace, remove or add tokens "
    "that root keeps without a code."
)
def test_self__sudo_refuses_other_command_lines(host: RootStore, alice: Person, words: list[str]) -> None:
    with host.start(alice, program=("/usr/bin/sudo", "--", "/usr/bin/softtoken-enroll", *words)) as dialogue:
        assert dialogue.finish() == 1
    assert "not allowed to execute" in dialogue.transcript
    assert not host.store_of(alice).exists()


def test_self__words_in_one_are_no_option(host: RootStore, alice: Person) -> None:
    """sudo compares all arguments as one text."""
    words = ("/usr/bin/sudo", "--", "/usr/bin/softtoken-enroll", "--self --user=root")
    with host.start(alice, "--no-confirm", program=words) as dialogue:
        assert dialogue.finish() == 2
    assert not host.store_of(alice).exists()


@pytest.mark.parametrize("option", ["--user=root", "--user={name}", "--store=%h/.softtoken", "--store=/etc/%U"])
@pytest.mark.claim(
    "A program that runs as the user and knows the password cannot read, replace, remove or add tokens "
    "that root keeps without a code."
)
def test_self__is_for_the_caller_and_the_hosts_store_only(host: RootStore, alice: Person, option: str) -> None:
    with host.start(alice, option.format(name=alice.name), "--no-confirm", program=SELF) as dialogue:
        assert dialogue.finish() == 2
    assert "does not go with --self" in dialogue.transcript
    assert not host.store_of(alice).exists()


@pytest.mark.parametrize(
    "assignment", ["SUDO_UID=0", "SUDO_USER=root", "PYTHONPATH=/tmp", "LD_PRELOAD=/tmp/x.so"], ids=lambda word: word[:9]
)
def test_self__accepts_no_variable_on_the_command_line(host: RootStore, alice: Person, assignment: str) -> None:
    words = ("/usr/bin/sudo", assignment, "/usr/bin/softtoken-enroll", "--self", "--no-confirm")
    with host.start(alice, program=words) as dialogue:
        assert dialogue.finish() == 1
    assert "not allowed to set" in dialogue.transcript
    assert not host.store_of(alice).exists()


def test_self__asks_for_the_password_every_time_even_beside_a_nopasswd_rule(host: RootStore, alice: Person) -> None:
    for other in ("ALL ALL=(ALL) NOPASSWD: ALL\n", "Defaults !authenticate\nALL ALL=(ALL) ALL\n"):
        host.set_rule(other + RULE.read_text())
        with host.start(alice, "--list", password=False) as dialogue:
            dialogue.expect("[sudo] password")
            dialogue.type(alice.password)
            assert "is not enrolled" in refusal(dialogue).error
    host.set_rule("ALL ALL=(ALL) ALL\n" + RULE.read_text())
    around = ["sh", "-c", 'sudo true; sudo -n true && exec "$@"', "sh"]
    with host.start(alice, "--list", around=around) as dialogue:  # the first password is for sudo true
        dialogue.expect("[sudo] password")
        dialogue.type(alice.password)
        assert "is not enrolled" in refusal(dialogue).error
    with host.start(alice, password=False) as dialogue:
        dialogue.expect("[sudo] password")
        dialogue.type("wrong")
        mistake = refusal(dialogue)
    assert mistake.error == f"sudo did not let {alice.name} do that; nothing was changed"
    assert f"softtoken-enroll --user {alice.name}" in mistake.hint


def test_self__without_the_rule_names_the_administrator(host: RootStore, alice: Person) -> None:
    host.set_rule("")
    with host.start(alice) as dialogue:
        assert f"softtoken-enroll --user {alice.name}" in refusal(dialogue).hint


def test_self__without_sudo_names_the_administrator(host: RootStore, alice: Person, mounts: PrivateMounts) -> None:
    empty = mounts.directory / "no-sudo"
    empty.touch(0o644)
    host.run("mount", "--bind", str(empty), "/usr/bin/sudo")
    with host.start(alice, password=False) as dialogue:
        mistake = refusal(dialogue)
    assert "there is no /usr/bin/sudo" in mistake.error
    assert mistake.hint == f"ask an administrator for: softtoken-enroll --user {alice.name}"


@pytest.mark.claim(
    "A program that runs as the user and knows the password cannot read, replace, remove or add tokens "
    "that root keeps without a code."
)
def test_self__files_are_read_and_made_as_the_caller(host: RootStore, alice: Person, world: Path) -> None:
    secret, closed = world / f"secret-{alice.name}", world / f"closed-{alice.name}"
    secret.write_text(KEY)
    secret.chmod(0o600)
    closed.mkdir(0o755)
    (alice.home / "link").symlink_to(secret)
    (alice.home / "out").symlink_to(closed)
    for option in ("--key-file", "--import"):
        for path in (str(secret), "link", "/etc/shadow", "/proc/self/environ", "/proc/self/mem"):
            with host.start(alice, f"{option}={path}", "--no-confirm") as dialogue:
                assert "Permission denied" in refusal(dialogue).error
    for option in ("--png", "--svg", "--sheet"):
        for path in (f"{closed}/file", "out/file", "/etc/security/file"):
            with host.start(alice, f"{option}={path}", "--no-confirm") as dialogue:
                assert "Permission denied" in refusal(dialogue).error
    assert list(closed.iterdir()) == []
    (alice.home / "key").write_text(KEY)
    (alice.home / "key").chmod(0o600)
    os.chown(alice.home / "key", alice.uid, alice.gid)
    made = [f"--{kind}={kind}" for kind in ("png", "svg", "sheet")]
    with host.start(alice, "--key-file=key", *made, "--no-confirm", "--recovery-codes=0") as dialogue:
        assert dialogue.finish() == 0, dialogue.transcript
    for kind in ("png", "svg", "sheet"):
        status = (alice.home / kind).stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (alice.uid, alice.gid, 0o600)
    assert KEY in (alice.home / "sheet").read_text().replace(" ", "")


@pytest.mark.parametrize("option", ["--key-file=pipe", "--import=pipe", "--key-file=/dev/tty", "--import=/dev/zero"])
def test_self__waits_for_no_pipe_and_no_device(host: RootStore, alice: Person, option: str) -> None:
    os.mkfifo(alice.home / "pipe", 0o666)
    with host.start(alice, option, "--no-confirm") as dialogue:
        refusal(dialogue)


def test_self__reads_no_pictures_as_root(host: RootStore, alice: Person) -> None:
    for name, content in (("png", b"\x89PNG\r\n\x1a\n"), ("pskc", b"<KeyContainer/>")):
        (alice.home / name).write_bytes(content)
        with host.start(alice, f"--import={name}", "--no-confirm") as dialogue:
            assert "not take over pictures or PSKC files" in refusal(dialogue).error


def test_self__imports_no_token_of_another_user(
    host: RootStore, alice: Person, make_person: Callable[[], Person]
) -> None:
    bob = make_person()
    (alice.home / "users.oath").write_text(f"HOTP {bob.name} - 3132333435363738393031323334353637383930\n")
    with host.start(alice, "--import=users.oath", "--no-confirm") as dialogue:
        assert "only root can take over the tokens of others" in refusal(dialogue).error
    assert not host.store_of(bob).exists()


def test_self__runs_nothing_of_its_caller(host: RootStore, alice: Person) -> None:
    traps = Traps(alice.home)
    around = ["/usr/bin/env", *(f"{name}={value}" for name, value in traps.environment.items())]
    with host.start(alice, "--list", around=around) as dialogue:
        assert "is not enrolled" in refusal(dialogue).error
    assert traps.tale == []


@pytest.mark.parametrize(
    "around",
    [["prlimit", "--fsize=0:", "--"], ["prlimit", "--cpu=5:", "--"], ["env", "--ignore-signal"],
     ["env", "--block-signal"], ["sh", "-c", 'umask 0777; exec "$@"', "sh"],
     ["sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$@"', "sh"]],
    ids=["little space", "little time", "signals ignored", "signals blocked", "umask 0777", "no directory"],
)  # fmt: skip
def test_self__enrols_in_any_surroundings_of_the_caller(
    host: RootStore, alice: Person, service: Service, around: list[str]
) -> None:
    with host.start(alice, "--recovery-codes=1", around=around) as dialogue:
        phone = dialogue.confirm()
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_self__closed_descriptors_do_not_replace_the_code(
    host: RootStore, alice: Person, phone: Phone, closed: str
) -> None:
    before = (host.store_of(alice) / "tokens").read_bytes()
    around = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    with host.start(alice, "--force", "--no-confirm", around=around, password=False) as dialogue:
        if dialogue.expect_any("[sudo] password"):
            dialogue.type(alice.password)
        assert dialogue.finish() != 0
    assert (host.store_of(alice) / "tokens").read_bytes() == before


def test_self__caller_cannot_kill_it_and_a_stopped_one_blocks_no_login(
    host: RootStore, alice: Person, phone: Phone, service: Service
) -> None:
    with host.start(alice, "--name=spare") as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        (enroll,) = [each for each in processes() if "-I /usr/bin/softtoken-enroll --self --name=spare" in each.command]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            done = subprocess.run(
                host.command(alice, "kill", f"-{number.value}", str(enroll.pid)), capture_output=True, check=False
            )
            assert b"not permitted" in done.stderr
        # What Ctrl-Z in a shell comes to, for sudo as well.
        stopped = [dialogue.pid, *(each.pid for each in descendants(dialogue.pid))]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: any(each.pid == enroll.pid and each.state == "T" for each in processes()), "the stop")
        assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
        dialogue.press_control("C")


def test_self__interrupted_changes_nothing(host: RootStore, alice: Person) -> None:
    with host.start(alice, "--name=spare") as dialogue:
        dialogue.expect(CODE_PROMPT)
        dialogue.press_control("C")
        mistake = refusal(dialogue)
        assert mistake.error == "interrupted; nothing was changed"
        assert mistake.hint == "start again with softtoken-enroll --name=spare"
    assert not (host.store_of(alice) / "tokens").exists()


@pytest.mark.parametrize(
    "environment",
    [{}, {"SUDO_UID": "0", "SUDO_USER": "root"}, {"SUDO_UID": "4000000000", "SUDO_USER": "nobody-here"},
     {"SUDO_UID": "1", "SUDO_USER": "root"}, {"SUDO_UID": "x", "SUDO_USER": "daemon"}, {"SUDO_UID": "1"}],
    ids=str,
)  # fmt: skip
def test_self__needs_a_caller_that_sudo_names(installed: Installation, environment: dict[str, str]) -> None:
    Enroller(installed.enroll).run("--self", environment={**ENVIRONMENT, **environment}).refused(2)


def test_self__is_nothing_for_a_user_to_call(installed: Installation, alice: Person) -> None:
    before = listing(alice.home)
    environment = {**ENVIRONMENT, "SUDO_UID": str(alice.uid), "SUDO_USER": alice.name}
    done = Enroller(installed.enroll).run("--self", "--no-confirm", person=alice, environment=environment)
    done.refused(2)
    assert listing(alice.home) == before


def test_self__result_that_nobody_reads_holds_no_lock_for_long(
    host: RootStore, alice: Person, phone: Phone, service: Service
) -> None:
    around = ["/usr/bin/python3", "-I", "-c", WITH_FULL_STDOUT]
    before = (host.store_of(alice) / "tokens").read_bytes()
    with host.start(alice, "--name=spare", "--json", "--recovery-codes=0", around=around) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.hotp())
        dialogue.expect(CODE_PROMPT)
        dialogue.type(dialogue.phone().totp())
        assert refusal(dialogue).error == "interrupted; nothing was changed"
    assert (host.store_of(alice) / "tokens").read_bytes() == before
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_self__first_token_is_possible_under_nullok_if_sudo_asks_for_a_code(
    host: RootStore, alice: Person, installed: Installation, mounts: PrivateMounts
) -> None:
    def ask_for_a_code(option: str) -> None:
        ours = installed.line(f"store={host.template}", *([option] if option else []))
        rest = "account required pam_unix.so\nsession required pam_permit.so\n"
        mounts.set_service("sudo", "auth required pam_unix.so nodelay\n" + ours + rest)

    ask_for_a_code("")
    with host.start(alice) as dialogue:
        dialogue.expect("Verification code: ")
        dialogue.type("000000")
        assert "where sudo asks for a code that you cannot have yet" in refusal(dialogue).hint
    for option in ("nullok", "required_from=2999-12-31"):
        ask_for_a_code(option)
        with host.start(alice, "--type=hotp", "--recovery-codes=1") as dialogue:
            phone = dialogue.confirm()
        with host.start(alice, "--list") as dialogue:
            dialogue.expect("Verification code: ")
            dialogue.type(phone.hotp_at(1))
            assert dialogue.finish() == 0
        for path in (host.store_of(alice) / "tokens", MARKS / str(alice.uid)):
            path.unlink()


SOMEBODY_ELSE = (
    ["--user=root"], ["--user", "root"], ["--use=root"], ["--us", "root"], ["--u=root"], ["--user="], ["-uroot"],
    ["--store=/nowhere/%U"], ["--stor=/nowhere/%U"], ["--sto", "/nowhere/%U"], ["--store="],
    ["--", "--user=root"], ["root"], ["--list", "root"], ["--self=root"], ["--sel"], ["--self", "--user=root"],
    ["--user=root", "--self"], ["--list", "--user=root"], ["--check", "--user=root"], ["--import=uri", "--user=root"],
    ["--user=root\n"], ["--user\t=root"], ["@arguments"],
)  # fmt: skip


def test_self__no_spelling_of_an_option_names_another_user(host: RootStore, alice: Person, phone: Phone) -> None:
    (alice.home / "arguments").write_text("--user=root\n--force\n")
    (alice.home / "uri").write_text(f"otpauth://totp/x:y?secret={KEY}&issuer=x\n")
    before = listing(host.store_of(alice).parent)
    for words in SOMEBODY_ELSE:
        for more in ([], ["--force", "--no-confirm"]):
            with host.start(alice, *words, *more, program=SELF) as dialogue:
                assert dialogue.finish() in (2, 3), (words, dialogue.transcript)
            Mistake(dialogue.transcript)
            assert KEY not in dialogue.transcript, words
        assert listing(host.store_of(alice).parent) == before, words


def test_self__user_option_is_refused_even_for_the_own_account(host: RootStore, alice: Person, phone: Phone) -> None:
    with host.start(alice, f"--user={alice.name}", "--force", "--no-confirm", program=SELF) as dialogue:
        assert dialogue.finish() == 2
    assert "--user does not go with --self" in dialogue.transcript


TO_SUDO = (
    ["SUDO_UID=0", "SUDO_USER=root"], ["PYTHONPATH=."], ["LC_ALL=../x"], ["PATH=."], ["TMPDIR=."],
    ["--preserve-env"], ["--preserve-env=PYTHONPATH"], ["-E"], ["-H"],
    ["-u", "daemon"], ["-g", "daemon"], ["-R", "."], ["-D", "."], ["-s"], ["-i"], ["-b"], ["-e"],
)  # fmt: skip


@pytest.mark.parametrize("words", TO_SUDO, ids=" ".join)
def test_self__no_option_of_sudo_goes_beyond_the_rule(
    host: RootStore, alice: Person, phone: Phone, words: list[str]
) -> None:
    traps = Traps(alice.home)
    before = listing(host.store_of(alice).parent)
    command = ["/usr/bin/sudo", *words, "/usr/bin/softtoken-enroll", "--self", "--force", "--no-confirm", "--json"]
    with host.start(alice, program=command, password=False) as dialogue:
        if dialogue.expect_any("[sudo] password"):
            dialogue.type(alice.password)
            dialogue.finish()
    assert '"key"' not in dialogue.transcript
    assert traps.tale == []
    assert listing(host.store_of(alice).parent) == before


def test_self__acts_for_the_caller_in_any_environment(
    host: RootStore, alice: Person, phone: Phone, make_person: Callable[[], Person], installed: Installation
) -> None:
    bob = make_person()
    bob.enrol(installed, "--name=bobs", "--recovery-codes=0", f"--store={host.template}")
    places = {name: str(alice.home) for name in ("HOME", "TMPDIR", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "GCONV_PATH")}
    spoofed = {
        "SUDO_UID": str(bob.uid), "SUDO_USER": bob.name, "SUDO_GID": "0", "SUDO_COMMAND": "/bin/true",
        "USER": bob.name, "LOGNAME": bob.name, "USERNAME": bob.name, "MAIL": "/", "TERM": "../../x", **places,
        "LANGUAGE": f"../../../../..{alice.home}", "LC_ALL": f"../../../../..{alice.home}", "COLUMNS": "1",
        "PYTHONINSPECT": "1", "PYTHONBREAKPOINT": "os.system", "NO_COLOR": "\x1b[31m",
    }  # fmt: skip
    around = ["/usr/bin/env", *(f"{name}={value}" for name, value in spoofed.items())]
    with host.start(alice, "--list", around=around) as dialogue:
        assert dialogue.finish() == 0, dialogue.transcript
    assert "phone  hotp" in dialogue.transcript
    assert "bobs" not in dialogue.transcript


@pytest.mark.parametrize(
    "limit", ["nofile=3:", "nofile=8:", "as=40000000:", "stack=65536:", "nproc=1:", "data=1000000:", "memlock=0:"]
)
def test_self__limits_do_not_replace_the_code(
    host: RootStore, alice: Person, phone: Phone, service: Service, limit: str
) -> None:
    before = listing(host.store_of(alice).parent)
    around = ["prlimit", f"--{limit}", "--"]
    with host.start(alice, "--force", "--no-confirm", "--json", around=around, password=False) as dialogue:
        if dialogue.expect_any("[sudo] password"):
            dialogue.type(alice.password)
        assert dialogue.finish() != 0
    assert '"key"' not in dialogue.transcript
    assert listing(host.store_of(alice).parent) == before
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


@pytest.mark.parametrize("option", ["--key-file", "--import"])
def test_self__reads_no_descriptor_that_its_process_has_opened(host: RootStore, alice: Person, option: str) -> None:
    for number in range(3, 12):
        for path in (f"/dev/fd/{number}", f"/proc/self/fd/{number}"):
            with host.start(alice, f"{option}={path}", "--no-confirm") as dialogue:
                said = refusal(dialogue).error
                assert "Permission denied" in said or "No such file" in said
    assert not (host.store_of(alice) / "tokens").exists()
