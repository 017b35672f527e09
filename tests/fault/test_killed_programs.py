"""Kill (SIGKILL) a program that changes an enrolment, at some of its system calls.

Afterwards the owner gets in with the old token or with the new one. The same command can be run again. A sweep
over all calls takes minutes, so an ordinary run kills at a few. TEST_SEED=N draws the same calls again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pam_softtoken.account import revocation
from tests.support.account import Person, Phone
from tests.support.admin import Admin
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import Enroller, Finished
from tests.support.fault import CHANGING, Call, drawn
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.one_process import in_one_process
from tests.support.pam_scene import hash_anew, lock_out, set_pin

COST, PIN = 2**10, "73219"


class Owner:
    """Alice with two tokens and a recovery code. Each `reset` restores all of them.

    Attributes:
        alice: the user.
        phone, spare: the two tokens, which count logins (HOTP).
        recovery_code: the only recovery code.
    """

    def __init__(self, alice: Person, service: Service, aside: Path) -> None:
        self.alice = alice
        self._service = service
        self._aside = aside
        installed = service.installed
        self.phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=1")
        self.spare = alice.enrol(installed, "--type=hotp", "--name=spare")
        (self.recovery_code,) = self.phone.recovery_codes
        hash_anew(alice.store / "tokens", [self.recovery_code], COST)

    def keep(self) -> None:
        """Keep the present files as those that `reset` restores."""
        shutil.copytree(self.alice.store, self._aside)

    def reset(self) -> None:
        """Restore the kept files."""
        self.alice.forget_on_the_host()
        shutil.rmtree(self.alice.store, ignore_errors=True)
        shutil.copytree(self._aside, self.alice.store)
        for path in (self.alice.store, *self.alice.store.iterdir()):
            os.chown(path, self.alice.uid, self.alice.gid)

    def accepts(self, *codes: str) -> list[str]:
        """Return those of the given codes that let Alice in."""
        return [code for code in codes if self._log_in(code) == PAM_SUCCESS]

    def _log_in(self, code: str) -> int:
        result = self._service.log_in(self.alice, code).result
        assert result in (PAM_SUCCESS, PAM_AUTH_ERR)
        return result


def shown(done: Finished) -> dict[str, object]:
    """Return the JSON that a program printed before the kill, or an empty dictionary if it printed none."""
    return json.loads(done.stdout) if done.stdout else {}


def after_force(owner: Owner, done: Finished, again: Finished | None) -> None:
    """Check that exactly one phone lets Alice in: the old one, or a new one whose key was shown."""
    phones = [owner.phone] if again is None else []
    phones += [Phone(record) for each in (done, again) if each is not None and (record := shown(each))]
    right = [phone for phone in phones if owner.accepts(phone.hotp_at(0))]
    assert len(right) == 1, "with neither" if not right else "with both"
    assert again is None or right == phones[-1:], "not with the one that was shown last"


def after_remove(owner: Owner, done: Finished, again: Finished | None) -> None:
    """Check that the phone lets Alice in. The spare phone does so only as long as it is enrolled."""
    is_there = "spare" in (owner.alice.store / "tokens").read_text()
    assert owner.accepts(owner.phone.hotp_at(3 if again else 0))
    assert bool(owner.accepts(owner.spare.hotp_at(0))) is is_there
    assert not (again and is_there)


def after_renewal(owner: Owner, done: Finished, again: Finished | None) -> None:
    """Check that exactly one recovery code works: the old one, or the last one that was shown."""
    codes = [owner.recovery_code]
    for each in (done, again):
        new = shown(each).get("recovery_codes", []) if each else []
        assert isinstance(new, list)
        codes += [keep(str(code)) for code in new]
    right = owner.accepts(*codes)
    assert len(right) == 1, "neither" if not right else "both"
    assert again is None or right == codes[-1:], "not the one that was shown last"
    assert owner.accepts(owner.phone.hotp_at(3 if again else 0))


def after_no_pin(owner: Owner, done: Finished, again: Finished | None) -> None:
    """Check that Alice gets in, with or without the PIN. After the second run no PIN is needed."""
    code = owner.phone.hotp_at(3 if again else 0)
    assert owner.accepts(code) or (not again and owner.accepts(PIN + code))


def after_pin(owner: Owner, done: Finished, again: Finished | None) -> None:
    """Check that Alice gets in, with or without the PIN. After the second run the PIN works."""
    code = owner.phone.hotp_at(3 if again else 0)
    assert (not again and owner.accepts(code)) or owner.accepts(PIN + code)


def after_revoke(owner: Owner, done: Finished, again: Finished | None) -> None:
    """Check that the phone lets Alice in. The spare phone does so only if the revocation was not recorded."""
    is_recorded = bool(revocation.read(owner.alice.uid).names)
    assert bool(owner.accepts(owner.spare.hotp_at(0))) is not is_recorded
    assert owner.accepts(owner.phone.hotp_at(3 if again else 0))
    assert is_recorded or not again


def after_relief(owner: Owner, done: Finished, again: Finished | None) -> None:
    """Check that after the second run the phone and the printed code let Alice in."""
    if again is None:
        return
    assert owner.accepts(owner.phone.hotp_at(3))
    issued = again.stdout.strip()
    assert not issued or owner.accepts(keep(issued)), "the code that was issued"


class Deed(NamedTuple):
    """A command that changes something.

    Args:
        words: its own words; `USER` stands for the user.
        check: called after the kill, and again with the second run.
        prepare: creates the situation for the command.
        is_repeated: the second run may say that there is nothing left to do.
        typed: the answers of a user at a terminal.
    """

    words: str
    check: Callable[[Owner, Finished, Finished | None], None]
    prepare: Callable[[Owner], None] = lambda owner: None
    is_repeated: bool = False
    typed: tuple[str, ...] = ()


def set_the_pin(owner: Owner) -> None:
    set_pin(owner.alice.store / "tokens", PIN)


def lock_the_user_out(owner: Owner) -> None:
    lock_out(owner.alice)


_ENROL = "softtoken-enroll --user USER --no-confirm"
DEEDS = {
    "force": Deed(f"{_ENROL} --json --force --type=hotp --recovery-codes=0", after_force),
    "remove": Deed(f"{_ENROL} --remove spare", after_remove, is_repeated=True),
    "new-recovery-codes": Deed(f"{_ENROL} --json --new-recovery-codes --recovery-codes=1", after_renewal),
    "no-pin": Deed("softtoken-enroll --user USER --no-pin", after_no_pin, set_the_pin, is_repeated=True),
    "pin": Deed("softtoken-enroll --user USER --pin", after_pin, typed=(PIN, PIN)),
    "revoke": Deed("softtoken-admin revoke USER spare --yes", after_revoke, is_repeated=True),
    "unlock": Deed("softtoken-admin unlock USER", after_relief, lock_the_user_out),
    "code-for": Deed("softtoken-admin code-for USER --for=1h", after_relief),
    "reset-state": Deed("softtoken-admin reset-state USER --yes", after_relief),
}


class Killer:
    """Run one command, undisturbed or killed at a call.

    Args:
        installed: the installation of the program.
        owner: the user concerned.
        deed: the command.
        trace: a file for strace's output.
    """

    def __init__(self, installed: Installation, owner: Owner, deed: Deed, trace: Path) -> None:
        program, *words = deed.words.replace("USER", owner.alice.name).split()
        is_admins = program == "softtoken-admin"
        self._program = Admin(installed) if is_admins else Enroller(installed.enroll)
        self._traced = in_one_process(installed) if is_admins else self._program
        self._words = words
        self._typed = deed.typed
        self._trace = trace

    def run(self) -> Finished:
        """Run the command normally."""
        return self._run(self._program)

    def calls(self) -> list[Call]:
        """List the calls that can change anything, starting at the first look at a user's files."""
        done = self._strace("trace=all")
        assert done.status == 0, done.stderr
        seen: Counter[str] = Counter()
        calls = []
        for line in self._trace.read_text().splitlines():
            name = line.partition("(")[0]
            seen[name] += 1
            calls.append(Call(name, seen[name], line))
        begin = next(
            place for place, call in enumerate(calls) if '".softtoken"' in call.text or "/revoked" in call.text
        )
        return [call for call in calls[begin:] if call.name in CHANGING]

    def kill_at(self, call: Call) -> Finished:
        """Run the command, and kill it as it enters a call."""
        done = self._strace(f"trace={call.name}", f"inject={call.name}:signal=KILL:when={call.number}")
        assert done.status == -9, f"did not happen: {done.stderr}"
        return done

    def _strace(self, *expressions: str) -> Finished:
        words = [word for expression in expressions for word in ("-e", expression)]
        return self._run(self._traced.after("strace", "-o", self._trace, *words))

    def _run(self, program: Enroller) -> Finished:
        if not self._typed:
            return program.run(*self._words)
        with program.start(*self._words) as dialogue:
            for line in self._typed:
                if not dialogue.expect_or_end(": "):
                    break
                dialogue.type(line)
            return Finished(dialogue.finish(), "", dialogue.transcript)


@pytest.fixture
def owner(alice: Person, service: Service, tmp_path: Path) -> Iterator[Owner]:
    """Alice with two tokens and a recovery code."""
    alice.forget_on_the_host()
    yield Owner(alice, service, tmp_path / "kept")
    alice.forget_on_the_host()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("force", marks=pytest.mark.lockout("softtoken-enroll --force is killed")),
        pytest.param("remove", marks=pytest.mark.lockout("softtoken-enroll --remove is killed")),
        pytest.param(
            "new-recovery-codes", marks=pytest.mark.lockout("softtoken-enroll --new-recovery-codes is killed")
        ),
        pytest.param("no-pin", marks=pytest.mark.lockout("softtoken-enroll --no-pin is killed")),
        pytest.param("pin", marks=pytest.mark.lockout("softtoken-enroll --pin is killed")),
        pytest.param("revoke", marks=pytest.mark.lockout("softtoken-admin revoke of another token is killed")),
        pytest.param("unlock", marks=pytest.mark.lockout("softtoken-admin unlock is killed, and given again")),
        pytest.param("code-for", marks=pytest.mark.lockout("softtoken-admin code-for is killed, and given again")),
        pytest.param(
            "reset-state", marks=pytest.mark.lockout("softtoken-admin reset-state is killed, and given again")
        ),
    ],
)
def test_program__killed_at_any_call_keeps_nobody_out_and_works_again(
    installed: Installation, owner: Owner, outside: Path, name: str
) -> None:
    """The test empties unfinished files after the kill, as a power cut before a sync would."""
    deed = DEEDS[name]
    deed.prepare(owner)
    owner.keep()
    killer = Killer(installed, owner, deed, outside / "trace")
    assert killer.run().status == 0  # it creates directories that all users share
    owner.reset()
    calls = killer.calls()
    assert {"flock", "fdatasync"} <= {call.name for call in calls}
    for call in drawn(calls):
        print(f"killed at {call}")
        owner.reset()
        killed = killer.kill_at(call)
        for unfinished in owner.alice.store.glob(".tokens.*"):
            os.truncate(unfinished, 0)
        deed.check(owner, killed, None)
        again = killer.run()
        assert again.status == 0 or (deed.is_repeated and again.status == 1), again.stderr
        deed.check(owner, killed, again)
