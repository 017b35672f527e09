"""Run `softtoken-admin revoke`: it counts at once and for ever, whatever the user does meanwhile and afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pam_softtoken.account import revocation, safe_open, token_file
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.location import Location
from pam_softtoken.account.revoking import revoke
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from tests.support import revoking
from tests.support.account import Person, Phone
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import Enroller
from tests.support.fault import Call, drawn, is_unsteady
from tests.support.installation import TREE, Installation
from tests.support.leak import keep
from tests.support.pam_scene import NO_CODES, Clock, Pam, oathtool, steady_step
from tests.support.pam_waiting import Waiting
from tests.support.sampling import amount
from tests.support.system_log import SystemLog

ROUNDS, CROWD = amount(6, full=20), 16
WIDE = ("window=5", "look_ahead=20", "timeout=60")


@pytest.fixture
def admin(installed: Installation) -> Admin:
    """The installed `softtoken-admin`."""
    return Admin(installed)


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's token and two recovery codes. Its codes last longer than any test."""
    alice.forget_on_the_host()
    return alice.enrol(installed, "--period=300", "--recovery-codes=2")


def copy_of(person: Person, place: Path) -> Callable[[], None]:
    """Keep a copy of a user's files, and return a function that restores it."""
    shutil.copytree(person.store, place)

    def put_back() -> None:
        shutil.rmtree(person.store, ignore_errors=True)
        shutil.copytree(place, person.store)
        for path in (person.store, *person.store.iterdir()):
            os.chown(path, person.uid, person.gid)

    return put_back


def assert_refused(service: Service, person: Person, *codes: str) -> None:
    """Check that none of some codes is accepted."""
    assert {service.log_in(person, code).result for code in codes} == {PAM_AUTH_ERR}


# -- at once


@pytest.mark.parametrize(
    "script",
    [
        revoking.HOLD_EVERY_LOCK,
        revoking.HOLD_LEASES,
        revoking.PIPES_FOR_FILES,
        revoking.PUT_COPIES_BACK,
        revoking.SWAP_THE_DIRECTORY,
    ],
    ids=["locks", "leases", "pipes", "copies", "swaps"],
)
@pytest.mark.claim(
    "`revoke` works at once, whatever the user locks, replaces or floods. Killed at any system call, it "
    "has revoked everything or nothing."
)
def test_revoke__waits_for_nothing_that_the_user_does(
    admin: Admin, alice: Person, phone: Phone, service: Service, script: str
) -> None:
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    with revoking.against(alice, script) as adversary:
        done = admin.run("revoke", alice.name, "--yes")
        assert adversary.poll() is None, "it waited until the user gave in"
    assert succeeded(done) == ""
    assert f"From now on no code of {alice.name} is accepted." in done.stderr
    assert_refused(service, alice, phone.totp(1), *phone.recovery_codes)


def test_revoke__names_the_process_that_holds_the_lock(admin: Admin, alice: Person, phone: Phone) -> None:
    with revoking.against(alice, revoking.HOLD_EVERY_LOCK) as adversary:
        done = admin.run("revoke", alice.name, "--yes")
    assert succeeded(done) == ""
    assert f"process {adversary.pid} (python3; {alice.name}, uid {alice.uid}) holds the lock" in done.stderr


def test_revoke__of_one_token_waits_for_no_lock_either(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, service: Service
) -> None:
    spare = alice.enrol(installed, "--name=spare", "--period=300")
    with revoking.against(alice, revoking.HOLD_EVERY_LOCK):
        assert succeeded(admin.run("revoke", alice.name, "phone", "--yes")) == ""
    assert_refused(service, alice, phone.totp())
    assert service.log_in(alice, spare.totp()).result == PAM_SUCCESS
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS


def test_revoke__of_one_token_names_another_that_came_while_root_was_asked(
    admin: Admin, installed: Installation, alice: Person, phone: Phone
) -> None:
    """A thief of the revoked token may have used its last code to add another token."""
    alice.enrol(installed, NO_CODES, "--name=spare")
    with admin.start("revoke", alice.name, "phone") as dialogue:
        dialogue.expect("Revoke? [y/N] ")
        alice.enrol(installed, NO_CODES, "--name=thief")
        dialogue.type("y")
        assert dialogue.finish() == 0
    assert f'Done. "phone" is gone; {alice.name} has "spare", "thief".' in dialogue.transcript
    assert 'Added while you were asked: "thief".' in dialogue.transcript


def test_revoke__of_an_unreadable_token_suggests_to_revoke_everything(
    admin: Admin, alice: Person, phone: Phone, service: Service
) -> None:
    with revoking.against(alice, revoking.PIPES_FOR_FILES):
        error, hint = refused(admin.run("revoke", alice.name, "phone", "--yes"))
    assert "nothing was changed" in error
    assert f"softtoken-admin revoke {alice.name}" in hint
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


def test_revoke__with_force_revokes_tokens_whose_file_is_gone(
    admin: Admin, alice: Person, phone: Phone, service: Service, tmp_path: Path
) -> None:
    """Alice has never logged in, so only the files in the home show the enrolment."""
    put_back = copy_of(alice, tmp_path / "kept")
    shutil.rmtree(alice.store)
    error, _ = refused(admin.run("revoke", alice.name, "--yes"))
    assert "is not enrolled" in error
    assert succeeded(admin.run("revoke", alice.name, "--force", "--yes")) == ""
    put_back()
    assert_refused(service, alice, phone.totp())


def test_revoke__where_root_keeps_the_tokens_waits_for_no_login_that_hangs(
    admin: Admin, installed: Installation, alice: Person, pam: Pam, outside: Path
) -> None:
    alice.forget_on_the_host()
    (outside / "tokens").mkdir(0o700)
    template = f"--store={outside}/tokens/%U"
    phone = alice.enrol(installed, template, "--period=300", NO_CODES)
    service = pam.service(template.removeprefix("--"))
    with revoking.against(alice, revoking.HOLD_EVERY_LOCK, f"{outside}/tokens/{alice.uid}") as hanging:
        assert succeeded(admin.run("revoke", alice.name, template, "--yes")) == ""
        assert hanging.poll() is None
    assert_refused(service, alice, phone.totp())
    again = alice.enrol(installed, template, "--period=300", NO_CODES)
    assert service.log_in(alice, again.totp()).result == PAM_SUCCESS


# -- logins in progress


@pytest.mark.claim(
    "`revoke` works at once, whatever the user locks, replaces or floods. Killed at any system call, it "
    "has revoked everything or nothing."
)
def test_revoke__during_a_flood_of_right_codes_none_is_accepted_afterwards(
    admin: Admin, installed: Installation, alice: Person, pam: Pam
) -> None:
    """All logins have read the tokens before. Half of them answer during the revocation, the others after it.

    In every second round the user has closed their directory, so that the token file stays where it is.
    """
    service = pam.service(*WIDE)
    for number in range(ROUNDS + 1):
        shutil.rmtree(alice.store, ignore_errors=True)
        alice.forget_on_the_host()
        button = alice.enrol(installed, "--type=hotp", NO_CODES)
        clock = alice.enrol(installed, "--name=clock", "--period=300", NO_CODES)
        alice.store.chmod(0o500 if number % 2 else 0o700)
        counting = oathtool(button, 0, CROWD)
        codes = [*counting[: CROWD // 4], *(clock.totp(step) for step in range(-3, 1))]
        late = [*counting[CROWD // 4 : CROWD // 2], *(clock.totp(step) for step in range(1, 5))]
        with ExitStack() as exits:
            clients = [exits.enter_context(Waiting(service, alice)) for _ in (*codes, *late)]
            for client, code in zip(clients, (*codes, *late), strict=True):
                client.write_down(code)
            for client in clients:
                client.wait_for_prompt()
            flood, patient = clients[: len(codes)], clients[len(codes) :]
            for client in flood:
                client.release()
            if number < ROUNDS:
                succeeded(admin.run("revoke", alice.name, "--yes"))
            outcomes = []
            for client in patient:
                client.release()
                outcomes.append(client.outcome().result)
            for client in flood:
                client.outcome()
        # Without a revocation, in the last round, the same codes are right.
        assert set(outcomes) == {PAM_AUTH_ERR if number < ROUNDS else PAM_SUCCESS}, f"round {number}"


_MEDDLING_BACKEND = """
import os, sys
sys.path.insert(0, {root!r})
from pam_softtoken.account import revoking
from pam_softtoken.login import login
from pam_softtoken.bridge.backend import main
place = int(open({place!r}).read())
calls = []
def meddle(frame, event, called):
    if event != "c_call" or getattr(called, "__module__", "") not in ("posix", "fcntl"):
        return
    calls.append(called.__name__)
    if len(calls) == place:
        sys.setprofile(None)
        ids = os.geteuid(), os.getegid()
        os.seteuid(0)
        os.setegid(0)
        revoking.revoke({uid}, fingerprints=(), everything=True, now=0)
        os.setegid(ids[1])
        os.seteuid(ids[0])
    if called.__name__ == "write":  # the last one is the verdict
        with open({calls!r}, "w") as file:
            file.write(" ".join(calls))
sys.setprofile(meddle)
main(__file__)
"""


class Meddler:
    """Logins in which everything is revoked just before the backend's N-th system call.

    Args:
        directory: a root-owned directory that everybody can enter.
    """

    def __init__(self, directory: Path, installed: Installation, person: Person, pam: Pam, *options: str) -> None:
        self._place, self._calls = directory / "place", directory / "calls"
        backend = directory / "backend"
        backend.write_text(
            _MEDDLING_BACKEND.format(
                root=str(installed.root), place=str(self._place), uid=person.uid, calls=str(self._calls)
            )
        )
        self._person = person
        self._service = pam.with_backend(backend, "window=5", *options)
        self._before = {name: (person.store / name).read_bytes() for name in ("tokens", "state")}

    def log_in(self, place: int, *answers: str) -> int:
        """Log in from the same start, and revoke before that call; 0 for never."""
        self._person.forget_on_the_host()
        for name, data in self._before.items():
            (self._person.store / name).write_bytes(data)
        self._place.write_text(str(place))
        return self._service.log_in(self._person, *answers, options=["--item=rhost=192.0.2.7"]).result

    def calls(self, *answers: str) -> list[str]:
        """List the calls of an accepted login."""
        assert self.log_in(0, *answers) == PAM_SUCCESS
        return self._calls.read_text().split()


@pytest.mark.parametrize("kind", ["totp", "recovery", "grace"])
def test_revoke__before_any_call_of_a_login_refuses_it_or_comes_after_its_success(
    installed: Installation, alice: Person, phone: Phone, pam: Pam, outside: Path, kind: str
) -> None:
    """The login checks revocations last when its code is on the disk. A later revocation finds it accepted."""
    options = ["grace=1h"] if kind == "grace" else []
    if kind == "grace":
        first = pam.service(*options).log_in(alice, phone.totp(), options=["--item=rhost=192.0.2.7"])
        assert first.result == PAM_SUCCESS
    meddler = Meddler(outside, installed, alice, pam, *options)
    answers = {"totp": [phone.totp(2)], "recovery": phone.recovery_codes[:1], "grace": []}[kind]
    calls = meddler.calls(*answers)
    last_look = max(number for number, name in enumerate(calls, 1) if name == "listdir")
    decisive = "pread" if kind == "grace" else "fdatasync"
    assert last_look > max(number for number, name in enumerate(calls, 1) if name == decisive)
    first_look = calls.index("listdir") + 1
    for place in range(first_look, len(calls) + 1):
        expected = PAM_SUCCESS if place > last_look else PAM_AUTH_ERR
        assert meddler.log_in(place, *answers) in (expected, 19 if kind == "grace" else expected), (
            f"revoked before call {place}, {calls[place - 1]}; the last look is call {last_look}"
        )


@pytest.mark.claim(
    "`revoke` lasts for ever. It also counts for a login in progress, and for copies that the user puts back."
)
def test_revoke__refuses_a_login_that_holds_the_lock(
    installed: Installation, alice: Person, phone: Phone, pam: Pam, outside: Path, system_log: SystemLog
) -> None:
    meddler = Meddler(outside, installed, alice, pam)
    calls = meddler.calls(phone.totp(2))
    assert meddler.log_in(calls.index("fdatasync") + 1, phone.totp(2)) == PAM_AUTH_ERR
    assert system_log.reasons() == ["accepted", "revoked"]


# -- for ever


@pytest.mark.claim(
    "`revoke` lasts for ever. It also counts for a login in progress, and for copies that the user puts back."
)
def test_revoke__old_copies_in_a_loop_let_nobody_in(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, service: Service
) -> None:
    issued = keep(succeeded(admin.run("code-for", alice.name, "--for=1h")).strip())
    with revoking.against(alice, revoking.PUT_COPIES_BACK):
        succeeded(admin.run("revoke", alice.name, "--yes"))
        assert_refused(service, alice, phone.totp(), phone.totp(1), *phone.recovery_codes, issued)
    assert_refused(service, alice, phone.totp(1), *phone.recovery_codes, issued)


@pytest.mark.lockout("all tokens were revoked", shows="reason=revoked", cure="softtoken-enroll --user alice")
def test_revoke__old_copies_stay_revoked_after_a_new_enrolment_by_root(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, service: Service, tmp_path: Path,
    system_log: SystemLog,
) -> None:  # fmt: skip
    put_back = copy_of(alice, tmp_path / "kept")
    succeeded(admin.run("revoke", alice.name, "--yes"))
    put_back()
    assert_refused(service, alice, phone.totp())
    assert system_log.reasons() == ["revoked"]
    fresh = alice.enrol(installed, "--period=300", "--recovery-codes=2")
    assert service.log_in(alice, fresh.totp()).result == PAM_SUCCESS
    assert service.log_in(alice, fresh.recovery_codes[0]).result == PAM_SUCCESS
    put_back()
    assert_refused(service, alice, phone.totp(1), fresh.totp(1), *phone.recovery_codes)


def test_revoke__second_one_revokes_tokens_enrolled_after_the_first(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, service: Service, tmp_path: Path
) -> None:
    succeeded(admin.run("revoke", alice.name, "--yes"))
    fresh = alice.enrol(installed, "--period=300", NO_CODES)
    put_back = copy_of(alice, tmp_path / "kept")
    with revoking.against(alice, revoking.PIPES_FOR_FILES):  # so that nobody can see which tokens these are
        succeeded(admin.run("revoke", alice.name, "--yes"))
    put_back()
    assert_refused(service, alice, fresh.totp(), phone.totp(1))


@pytest.mark.parametrize("again", [False, True], ids=["undisturbed", "revoked-meanwhile"])
def test_revoke__during_an_enrolment_by_root_revokes_the_new_token_too(
    alice: Person, phone: Phone, service: Service, again: bool
) -> None:
    content = token_file.parse((alice.store / "tokens").read_bytes(), path="tokens")
    shutil.rmtree(alice.store)
    revoke(alice.uid, fingerprints=(), everything=True, now=1)

    def change(present: TokenFile | None, state: State) -> tuple[TokenFile, State]:
        assert present is None
        if again:
            revoke(alice.uid, fingerprints=(), everything=True, now=2)
        return content, state

    store = Editor(Location("%h/.softtoken", safe_open.Account(alice.name, alice.uid, alice.gid, home=str(alice.home))))
    try:
        store.open_for_enrolment()
        store.begin_state()
        store.exchange(change, lambda: None)
    finally:
        store.close()
    result = service.log_in(alice, phone.totp(1)).result
    assert result == (PAM_AUTH_ERR if again else PAM_SUCCESS)


def test_revoke__ends_earlier_issued_codes_and_no_later_ones(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, service: Service, tmp_path: Path
) -> None:
    spare = alice.enrol(installed, "--name=spare", "--period=300")
    before = keep(succeeded(admin.run("code-for", alice.name, "--for=1h")).strip())
    old_state = (alice.store / "state").read_bytes()
    succeeded(admin.run("revoke", alice.name, "phone", "--yes"))
    (alice.store / "state").write_bytes(old_state)
    assert_refused(service, alice, before)
    after = keep(succeeded(admin.run("code-for", alice.name, "--for=1h")).strip())
    assert service.log_in(alice, after).result == PAM_SUCCESS
    assert service.log_in(alice, spare.totp()).result == PAM_SUCCESS


def test_revoke__a_time_of_grace_from_before_is_over(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, pam: Pam
) -> None:
    alice.enrol(installed, "--name=spare", "--period=300")
    service, here = pam.service("grace=1h"), ["--item=rhost=192.0.2.7"]
    assert service.log_in(alice, phone.totp(), options=here).result == PAM_SUCCESS
    assert service.log_in(alice, options=here).prompts == []
    old_state = (alice.store / "state").read_bytes()
    succeeded(admin.run("revoke", alice.name, "phone", "--yes"))
    (alice.store / "state").write_bytes(old_state)
    assert service.log_in(alice, phone.totp(1), options=here).result == PAM_AUTH_ERR


def test_revoke__ends_a_time_of_grace_from_a_wrong_clock_too(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, pam: Pam, outside: Path
) -> None:
    """The clock is half an hour ahead at the login, right at the revocation, and later reaches the same time again."""
    alice.enrol(installed, "--name=spare", "--period=300")
    clock, here = Clock(outside / "clock", installed, patient=False), ["--item=rhost=192.0.2.7"]
    service = pam.with_backend(clock.backend, "grace=1h")
    ahead = steady_step(300) + 6
    clock.set(ahead * 300)
    assert service.log_in(alice, oathtool(phone, ahead)[0], options=here).result == PAM_SUCCESS
    assert service.log_in(alice, options=here).prompts == []
    old_state = (alice.store / "state").read_bytes()
    succeeded(admin.run("revoke", alice.name, "phone", "--yes"))
    (alice.store / "state").write_bytes(old_state)
    assert service.log_in(alice, options=here).prompts != []


def test_revoke__a_thief_with_a_shell_cannot_enrol(
    admin: Admin, enroller: Enroller, installed: Installation, alice: Person, phone: Phone, service: Service
) -> None:
    succeeded(admin.run("revoke", alice.name, "--yes"))
    for options in (["--no-confirm", "--qr=none"], ["--list"], ["--name=mine", "--no-confirm"]):
        mistake = enroller.run(*options, person=alice).refused()
        assert "revoked" in mistake.error
        assert mistake.hint == f"ask an administrator for: softtoken-enroll --user {alice.name}"
    # By hand, with a file like that of an enrolment:
    alice.store.mkdir(0o700, exist_ok=True)
    thiefs = token_file.parse(TOKENS, path="tokens")
    (alice.store / "tokens").write_bytes(token_file.serialise(thiefs))
    (alice.store / "tokens").chmod(0o600)
    for path in (alice.store, alice.store / "tokens"):
        os.chown(path, alice.uid, alice.gid)
    (code,) = subprocess.run(
        ["oathtool", "--hotp", "--counter=1", thiefs.tokens[0].secret.reveal().hex()],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    (before,) = subprocess.run(
        ["oathtool", "--hotp", "--counter=0", thiefs.tokens[0].secret.reveal().hex()],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert_refused(service, alice, before, code)


TOKENS = b"""{"version": 1, "tokens": [{"name": "mine", "type": "hotp", "key": "MFRGGZDFMZTWQ2LKNNWG23TPOA",
"algorithm": "SHA1", "digits": 6, "created": 0, "counter": 0}],
"recovery": {"scrypt": [16384, 8, 1], "salt": "00000000000000000000000000000000", "hashes": []}}
"""


def test_revoke__a_revoked_key_is_not_enrolled_again(
    admin: Admin, enroller: Enroller, alice: Person, phone: Phone, tmp_path: Path
) -> None:
    succeeded(admin.run("revoke", alice.name, "--yes"))
    key = tmp_path / "key"
    key.write_text(str(phone.record["key"]))
    options = ["--user", alice.name, "--no-confirm", "--json", "--period=300", f"--key-file={key}"]
    mistake = enroller.run(*options).refused()
    assert "a revoked key never works again" in mistake.error
    assert not (alice.store / "tokens").exists()


def test_revoke__holds_for_programs_without_root_too(
    admin: Admin, alice: Person, phone: Phone, service: Service, tmp_path: Path
) -> None:
    put_back = copy_of(alice, tmp_path / "kept")
    assert service.log_in(alice, phone.totp(), run_as=alice).result == PAM_SUCCESS
    succeeded(admin.run("revoke", alice.name, "--yes"))
    put_back()
    assert service.log_in(alice, phone.totp(1), run_as=alice).result == PAM_AUTH_ERR


def test_revoke__a_record_that_cannot_be_understood_denies(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, pam: Pam, system_log: SystemLog
) -> None:
    alice.enrol(installed, "--name=spare", "--period=300")
    succeeded(admin.run("revoke", alice.name, "spare", "--yes"))
    (record,) = alice.revocations.iterdir()
    content = record.read_bytes()
    for broken in (b"", content[:-1], content + b"x", content + b"what is this\n", b"\xff" * 10):
        record.write_bytes(broken)
        assert pam.only_ignore("nullok").log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert set(system_log.reasons()) == {"unusable_file"}


# -- all or nothing

_KILLED = """\
import sys
sys.path.insert(0, {tree!r})
from pam_softtoken.account import enrolled_mark as mark, safe_open as files, revoking
open("/dev/null").close()  # the mark from which on it is killed
mark.set_for(files.Account({name!r}, {uid}, {uid}, home="/"))
revoking.revoke({uid}, fingerprints={fingerprints!r}, everything={everything}, now=1)
"""


def _strace(trace: Path, script: str, *options: str) -> int:
    command = ["strace", "-o", str(trace), *options, sys.executable, "-I", "-c", script]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode


def _calls(trace: Path) -> list[Call]:
    seen: dict[str, int] = {}
    calls = []
    for line in trace.read_text().splitlines():
        name = line.partition("(")[0]
        seen[name] = seen.get(name, 0) + 1
        calls.append(Call(name, seen[name], line))
    start = max(number for number, call in enumerate(calls) if '"/dev/null"' in call.text)
    return [call for call in calls[start + 1 :] if not is_unsteady(call) and call.name.isidentifier()]


@pytest.fixture
def restored(alice: Person) -> Iterator[Callable[[], None]]:
    """Restore the time before the revocation."""
    yield alice.forget_on_the_host
    alice.forget_on_the_host()


@pytest.mark.parametrize("everything", [True, False], ids=["everything", "tokens"])
@pytest.mark.parametrize("how", ["signal=KILL", "error=ENOSPC"])
@pytest.mark.claim(
    "`revoke` works at once, whatever the user locks, replaces or floods. Killed at any system call, it "
    "has revoked everything or nothing."
)
def test_revoke__killed_at_any_call_has_revoked_all_or_nothing(
    installed: Installation,
    alice: Person,
    phone: Phone,
    pam: Pam,
    tmp_path: Path,
    restored: Callable[[], None],
    how: str,
    everything: bool,
) -> None:
    alice.enrol(installed, "--name=spare", "--period=300")
    content = token_file.parse((alice.store / "tokens").read_bytes(), path="tokens")
    both = [token.fingerprint() for token in content.tokens]
    script = _KILLED.format(tree=str(TREE), name=alice.name, uid=alice.uid, fingerprints=both, everything=everything)
    trace = tmp_path / "trace"
    restored()
    assert _strace(trace, script) == 0
    calls = _calls(trace)
    assert {"rename", "fsync", "mkdir", "write"} <= {call.name for call in calls}
    seen = set()
    for call in drawn(calls):
        restored()
        _strace(trace, script, "-e", f"trace={call.name}", "-e", f"inject={call.name}:{how}:when={call.number}")
        known = revocation.read(alice.uid)
        counting = {known.counts(fingerprint) for fingerprint in both}
        assert len(counting) == 1, f"half revoked after {call}"
        assert (content.recovery.name in known.sets or not known.closing) == (counting == {True} or not everything)
        seen |= counting
        if call.name in ("rename", "fsync"):
            outcome = pam.service().log_in(alice, "000000" if counting == {True} else phone.totp())
            assert outcome.result == PAM_AUTH_ERR
        # Whatever was left behind, the command works when it is run again.
        assert _strace(trace, script, "-e", "trace=none") == 0
        assert not any(revocation.read(alice.uid).counts(fingerprint) for fingerprint in both)
    assert seen == {True, False}


CHANGING = {
    "rename",
    "fsync",
    "unlink",
    "mkdir",
    "chmod",
    "fchmod",
    "write",
    "sendto",
    "clone",
    "fork",
    "vfork",
    "wait4",
}


def test_revoke__command_killed_at_any_change_has_revoked_all_or_nothing(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, service: Service, tmp_path: Path
) -> None:
    """The token file may exist or not. Either no code of either token works, or the codes of both work."""
    spare = alice.enrol(installed, "--name=spare", "--period=300")
    put_back = copy_of(alice, tmp_path / "kept")
    trace = tmp_path / "trace"
    program = [str(word) for word in admin.program]

    def run(*options: str) -> int:
        alice.forget_on_the_host()
        put_back()
        command = ["strace", "-o", str(trace), *options, *program, "revoke", alice.name, "--yes"]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode

    assert run() == 0
    lines = trace.read_text().splitlines()
    numbers: dict[str, int] = {}
    calls = []
    for line in lines:
        name = line.partition("(")[0]
        numbers[name] = numbers.get(name, 0) + 1
        calls.append(Call(name, numbers[name], line))
    begin = next(number for number, call in enumerate(calls) if "/var/lib/softtoken" in call.text)
    seen = set()
    for call in drawn([call for call in calls[begin:] if call.name in CHANGING]):
        run("-e", f"trace={call.name}", "-e", f"inject={call.name}:signal=KILL:when={call.number}")
        results = {service.log_in(alice, token.totp(1)).result for token in (phone, spare)}
        is_recorded = bool(revocation.read(alice.uid).names)
        assert results == {PAM_AUTH_ERR if is_recorded else PAM_SUCCESS}, f"killed at {call}"
        seen |= results
    assert seen == {PAM_AUTH_ERR, PAM_SUCCESS}
