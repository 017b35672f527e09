"""Run `softtoken-admin move`: used codes stay used, and two copies never count, even after an interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import state as states
from pam_softtoken.account.state import State
from tests.support.account import RECORDS, Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.disk import disk_as_home
from tests.support.fault import CHANGING, Call, calls_in, drawn
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.listing import listing
from tests.support.one_process import in_one_process
from tests.support.pam_scene import oathtool

ROOTS = Path("/var/lib/softtoken")


class Movers:
    """The program, and the two places.

    Args:
        installed: the installation of the program.
        make_service: creates a PAM service.
    """

    def __init__(self, installed: Installation, make_service: Callable[[str], Service]) -> None:
        self.installed = installed
        self.program = installed.root / "scripts" / "softtoken-admin"
        self.home = make_service(installed.line())
        self.system = make_service(installed.line(f"store={ROOTS}/%U"))

    def command(self, *words: str) -> list[str]:
        return [str(self.program), "move", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def movers(installed: Installation, make_service: Callable[[str], Service]) -> Movers:
    """The program, and the two places."""
    return Movers(installed, make_service)


@pytest.fixture
def roots(alice: Person) -> Iterator[Path]:
    """The place of Alice's files in root's store."""
    path = ROOTS / str(alice.uid)
    shutil.rmtree(path, ignore_errors=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)
    (ROOTS / "enrolled" / str(alice.uid)).unlink(missing_ok=True)


@pytest.fixture
def phone(alice: Person, installed: Installation, roots: Path) -> Phone:
    """A token that counts, and two recovery codes, in Alice's home."""
    return alice.enrol(installed, "--type=hotp", "--recovery-codes=2")


def use_up(service: Service, alice: Person, *codes: str) -> None:
    for code in codes:
        assert service.log_in(alice, code).result == PAM_SUCCESS


def test_move__moves_tokens_and_used_codes_there_and_back(
    movers: Movers, alice: Person, phone: Phone, roots: Path
) -> None:
    used = [phone.hotp(), phone.recovery_codes[0]]
    use_up(movers.home, alice, *used)
    tokens = json.loads((alice.store / "tokens").read_text())
    done = movers.run(alice.name, "--to=system")
    assert (done.returncode, done.stdout) == (0, f"{alice.name}: moved to {roots}\n")
    assert done.stderr.startswith("Next, in /etc/security/softtoken.conf: store = /var/lib/softtoken/%U\n")
    assert not alice.store.exists()
    assert [(path.name, path.stat().st_uid, path.stat().st_mode & 0o777) for path in sorted(roots.iterdir())] == [
        ("state", 0, 0o600),
        ("tokens", 0, 0o600),
    ]
    bound = {**tokens, "account": {"name": alice.name, "uid": alice.uid}}
    assert json.loads((roots / "tokens").read_text()) == bound
    for code in used:
        assert movers.system.log_in(alice, code).result == PAM_AUTH_ERR
    used.append(phone.hotp())
    use_up(movers.system, alice, used[-1])
    assert movers.run(alice.name, "--to=home").returncode == 0
    assert not roots.exists()
    assert {path.name: path.stat().st_uid for path in alice.store.iterdir()} == dict.fromkeys(
        ("tokens", "state"), alice.uid
    )
    for code in used:
        assert movers.home.log_in(alice, code).result == PAM_AUTH_ERR
    use_up(movers.home, alice, phone.hotp(), phone.recovery_codes[1])


def test_move__keeps_an_issued_code_and_revives_no_used_one(
    movers: Movers, alice: Person, phone: Phone, roots: Path
) -> None:
    used, fresh = (
        keep(
            subprocess.run(
                [movers.program, "code-for", alice.name, "--for=1h"], check=True, capture_output=True, text=True
            ).stdout.strip()
        )
        for _ in range(2)
    )
    assert used != fresh
    assert movers.home.log_in(alice, used).result == PAM_AUTH_ERR  # the later one takes its place
    assert movers.run(alice.name, "--to=system").returncode == 0
    assert movers.system.log_in(alice, used).result == PAM_AUTH_ERR
    use_up(movers.system, alice, fresh)
    assert movers.run(alice.name, "--to=home").returncode == 0
    assert movers.home.log_in(alice, fresh).result == PAM_AUTH_ERR
    use_up(movers.home, alice, phone.hotp())


def test_move__leaves_a_user_that_nullok_does_not_let_in(
    movers: Movers, alice: Person, phone: Phone, make_service: Callable[[str], Service], installed: Installation
) -> None:
    """Alice has not logged in yet, so nothing else shows the enrolment."""
    assert movers.run(alice.name, "--to=system").returncode == 0
    assert make_service(installed.line("nullok")).log_in(alice, "000000").result == PAM_AUTH_ERR


def test_move__old_state_file_at_the_target_brings_no_used_code_back(
    movers: Movers, alice: Person, phone: Phone, roots: Path
) -> None:
    """The state file of a former token, with an older and with a newer record."""
    use_up(movers.home, alice, phone.hotp())
    older = (alice.store / "state").read_bytes()
    used = phone.hotp()
    use_up(movers.home, alice, used, phone.recovery_codes[0])
    newer = (alice.store / "state").read_bytes()
    for leftover, live in ((older, newer), (newer, older)):
        shutil.rmtree(roots, ignore_errors=True)
        roots.mkdir(0o700)
        (roots / "state").write_bytes(leftover)
        (roots / "state").chmod(0o600)
        (alice.store / "state").write_bytes(live)
        assert movers.run(alice.name, "--to=system").returncode == 0
        for code in (used, phone.recovery_codes[0]):
            assert movers.system.log_in(alice, code).result == PAM_AUTH_ERR
        assert movers.run(alice.name, "--to=home").returncode == 0
    use_up(movers.home, alice, phone.hotp())


def test_moved_onto__old_record_does_not_replace_the_lost_one_of_a_moved_token() -> None:
    """With an older record, codes that were used since then would be accepted again."""
    leftover = State(last={"moved": 5, "other": 7}, spent={"set": ("a",), "old": ("b",)})
    together = states.moved_onto(leftover, State(last={"more": 3}), {"moved"})
    assert together.last == {"other": 7, "more": 3}
    assert together.spent == {}
    together = states.moved_onto(leftover, State(last={"moved": 3}, spent={"set": ("c",)}), {"moved"})
    assert together.last == {"other": 7, "moved": 5}
    assert together.spent == {"set": ("a", "c")}


@pytest.mark.claim(
    "Moving tokens brings no used code back and leaves one copy at most, also when killed at a call drawn by lot."
)
def test_move__takes_along_codes_used_while_the_home_was_read_only(
    movers: Movers, alice: Person, installed: Installation, roots: Path
) -> None:
    with disk_as_home(alice, "size=1m"):
        phone = alice.enrol(installed, "--period=300", "--recovery-codes=0")
        first, second = phone.totp(), phone.totp(1)
        subprocess.run(["mount", "-o", "remount,ro", str(alice.home)], check=True)
        use_up(movers.home, alice, first)
        assert len(list(RECORDS.glob(f"{alice.uid}-*"))) == 1
        done = movers.run(alice.name, "--to=system")
        assert (done.returncode, alice.store.exists()) == (1, True)
        assert "Read-only file system" in done.stderr
        subprocess.run(["mount", "-o", "remount,rw", str(alice.home)], check=True)
        assert movers.run(alice.name, "--to=system").returncode == 0
    assert list(RECORDS.glob(f"{alice.uid}-*")) == []
    assert movers.system.log_in(alice, first).result == PAM_AUTH_ERR
    use_up(movers.system, alice, second)


def test_move__refuses_where_there_are_tokens_already(
    movers: Movers, alice: Person, phone: Phone, installed: Installation, roots: Path
) -> None:
    alice.enrol(installed, f"--store={ROOTS}/%U", "--recovery-codes=0")
    before = listing(alice.home), listing(roots)
    for to in ("system", "home"):
        for more in ((), ("--dry-run",)):
            done = movers.run(alice.name, f"--to={to}", *more)
            assert (done.returncode, done.stdout) == (1, "")
            assert "there are tokens in" in done.stderr
    assert (listing(alice.home), listing(roots)) == before


def test_move__dry_run_changes_nothing(movers: Movers, alice: Person, phone: Phone, roots: Path) -> None:
    before = listing(alice.home)
    done = movers.run(alice.name, "--to=system", "--dry-run")
    assert done.stdout == f'{alice.name}: "phone" would move from {alice.store} to {roots}\n'
    assert (done.returncode, done.stderr) == (0, "")
    assert (listing(alice.home), roots.exists()) == (before, False)


def test_move__of_several_users_reports_each_result(
    movers: Movers, alice: Person, phone: Phone, roots: Path, make_person: Callable[[], Person], installed: Installation
) -> None:
    bob, carol = make_person(), make_person()
    bob.enrol(installed, "--recovery-codes=0")
    (bob.store / "tokens").write_text("torn")
    done = movers.run(alice.name, bob.name, carol.name, "--to=system")
    assert (done.returncode, done.stdout) == (1, f"{alice.name}: moved to {roots}\n")
    assert f"{bob.name}: {bob.store}/tokens:" in done.stderr
    assert f"{carol.name}: is not enrolled there\n" in done.stderr
    assert f"softtoken-admin: error: 2 users of 3 not moved: {bob.name}, {carol.name}\n" in done.stderr
    assert (bob.store / "tokens").read_text() == "torn"


@pytest.mark.parametrize(
    "words", [[], ["--to=system"], ["--to=elsewhere", "root"], ["--all", "root", "--to=home"], ["root"]]
)
def test_move__mistake_is_status_2(movers: Movers, words: list[str]) -> None:
    assert movers.run(*words).returncode == 2


def test_move__of_an_unknown_user_moves_nobody(movers: Movers, alice: Person, phone: Phone) -> None:
    before = (alice.store / "tokens").read_bytes()
    done = movers.run(alice.name, "nobody-of-that-name", "--to=system")
    assert (done.returncode, done.stdout) == (1, "")
    assert 'error: no such user: "nobody-of-that-name"' in done.stderr
    assert (alice.store / "tokens").read_bytes() == before


def test_move__changes_the_home_as_the_user_and_follows_no_link(
    movers: Movers, alice: Person, phone: Phone, roots: Path, outside: Path
) -> None:
    precious = outside / "precious"
    precious.write_text("precious")
    for name in (".tokens.moving", "state", "tokens"):
        path = alice.store / name
        aside = path.with_suffix(".aside")
        if path.exists():
            path.rename(aside)
        for make in (lambda path: path.symlink_to(precious), os.mkfifo, lambda path: os.link(precious, path)):
            make(path)
            done = movers.run(alice.name, "--to=system")
            assert done.returncode == 1, done
            path.unlink()
        if aside.exists():
            aside.rename(path)
    assert precious.read_text() == "precious"
    assert not (roots / "tokens").exists()
    assert movers.run(alice.name, "--to=system").returncode == 0


class Interrupted:
    """A move that is killed at one of its calls, again and again from the same start.

    Args:
        movers: the program.
        alice: the user, who has used codes 0 and 1, and a recovery code.
        roots: the directory for Alice's files in root's store.
        to: the target of the move.
    """

    def __init__(self, movers: Movers, alice: Person, roots: Path, to: str) -> None:
        self.places = {"home": alice.store, "system": roots}
        self.source = self.places["home" if to == "system" else "system"]
        self.target = self.places[to]
        self._movers = movers
        self._words = (alice.name, f"--to={to}")
        self._kept = {path.name: path.read_bytes() for path in self.source.iterdir()}
        self._owner = self.source.stat()
        self._trace = roots.with_name(f"trace-{alice.uid}")

    def reset(self) -> None:
        for place in self.places.values():
            shutil.rmtree(place, ignore_errors=True)
        self.source.mkdir(0o700)
        for name, content in self._kept.items():
            (self.source / name).write_bytes(content)
            (self.source / name).chmod(0o600)
        for path in (self.source, *self.source.iterdir()):
            os.chown(path, self._owner.st_uid, self._owner.st_gid)

    def calls(self) -> list[Call]:
        """List the calls that can change anything, starting at the first look at a token."""
        self.reset()
        self._strace("trace=all")
        (calls,) = calls_in(self._trace.read_text()).values()
        first = next(number for number, call in enumerate(calls) if '"tokens"' in call.text)
        return [call for call in calls[first:] if call.name in CHANGING]

    def kill_at(self, call: Call) -> None:
        self._strace(f"trace={call.name}", f"inject={call.name}:signal=KILL:when={call.number}")

    def fail_at(self, call: Call) -> None:
        self._strace(f"trace={call.name}", f"inject={call.name}:error=EIO:when={call.number}", status=1)

    def go_on(self) -> subprocess.CompletedProcess[str]:
        return self._movers.run(*self._words)

    def clear(self) -> None:
        self._trace.unlink(missing_ok=True)

    def _strace(self, *expressions: str, status: int = -signal.SIGKILL) -> None:
        words = [word for expression in expressions for word in ("-e", expression)]
        program = in_one_process(self._movers.installed).program
        command = ["strace", "-f", "-o", str(self._trace), *words, *program, "move", *self._words]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert done.returncode == (status if len(expressions) > 1 else 0)


@pytest.mark.parametrize("to", ["system", "home"])
@pytest.mark.lockout("the disk fails while softtoken-admin move syncs it")
def test_move__sync_that_fails_leaves_exactly_one_copy(
    movers: Movers, alice: Person, phone: Phone, roots: Path, to: str
) -> None:
    if to == "home":
        assert movers.run(alice.name, "--to=system").returncode == 0
    interrupted = Interrupted(movers, alice, roots, to)
    syncs = [call for call in interrupted.calls() if call.name == "fsync"]
    assert len(syncs) >= 5
    for call in syncs:
        interrupted.reset()
        interrupted.fail_at(call)
        live = [place for place in interrupted.places.values() if (place / "tokens").exists()]
        assert len(live) == 1, f"{live} after {call}"
        assert interrupted.go_on().returncode == 0 or live == [interrupted.target]
        assert (interrupted.target / "tokens").exists()
        assert not (interrupted.source / "tokens").exists()
    interrupted.clear()


@pytest.mark.parametrize("to", ["system", "home"])
@pytest.mark.lockout("softtoken-admin move is killed, and given again")
@pytest.mark.claim(
    "Moving tokens brings no used code back and leaves one copy at most, also when killed at a call drawn by lot."
)
def test_move__killed_at_some_call_leaves_at_most_one_copy_and_revives_no_code(
    movers: Movers, alice: Person, phone: Phone, roots: Path, to: str
) -> None:
    if to == "home":
        assert movers.run(alice.name, "--to=system").returncode == 0
    old, new = (movers.home, movers.system) if to == "system" else (movers.system, movers.home)
    codes = oathtool(phone, 0, 4)
    use_up(old, alice, *codes[:2], phone.recovery_codes[0])
    interrupted = Interrupted(movers, alice, roots, to)
    calls = interrupted.calls()
    assert {"flock", "pwrite64", "fsync"} <= {call.name for call in calls}
    left = set()
    for call in drawn(calls):
        interrupted.reset()
        interrupted.kill_at(call)
        live = [place for place in interrupted.places.values() if (place / "tokens").exists()]
        assert len(live) <= 1, f"two copies, killed at {call}"
        left.add(str(live))
        done = interrupted.go_on()
        assert done.returncode == 0 or live == [interrupted.target], f"{done.stderr}, killed at {call}"
        assert (interrupted.target / "tokens").exists()
        assert not (interrupted.source / "tokens").exists()
        assert not (interrupted.source / ".tokens.moving").exists()
        assert new.log_in(alice, codes[1]).result == PAM_AUTH_ERR, f"killed at {call}"
        assert new.log_in(alice, codes[2]).result == PAM_SUCCESS, f"killed at {call}"
        assert old.log_in(alice, codes[3]).result == PAM_AUTH_ERR, f"killed at {call}"
    interrupted.clear()
    assert len(left) == 3, "before, between, after"
