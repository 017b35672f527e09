"""Check the notes that confirm a change of `softtoken-admin enable`: only the login that a code let in creates one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.login import login_note
from tests.support.account import Person, Phone
from tests.support.client import PAM_SUCCESS, PERMIT, Outcome, Service
from tests.support.installation import Installation
from tests.support.leak import keep_answer
from tests.support.pam_scene import Pam
from tests.support.private_mounts import PrivateMounts

SETCRED, WITHOUT_CODE = "--setcred", "--no-authenticate"


class Waiting:
    """A service with a pending change, on a host with its own /var/lib/softtoken.

    Args:
        mounts: the host.
        service: the service.
    """

    def __init__(self, mounts: PrivateMounts, service: Service) -> None:
        self._mounts = mounts
        self._service = service
        state = mounts.directory / "state"
        self.place = state / "changes" / service.name
        for directory, mode in ((state, 0o711), (self.place.parent, 0o700), (self.place, 0o700)):
            directory.mkdir()
            directory.chmod(mode)
        (self.place / login_note.PENDING).touch()
        subprocess.run(mounts.command("mount", "--bind", str(state), "/var/lib/softtoken"), check=True)

    def log_in(
        self, person: Person, *codes: str, options: tuple[str, ...] = (), run_as: Person | None = None
    ) -> Outcome:
        """Run one login attempt in a separate process, and return its outcome."""
        identity = []
        if run_as is not None:
            identity = ["setpriv", f"--reuid={run_as.uid}", f"--regid={run_as.gid}", "--clear-groups"]
        for code in codes:
            keep_answer(code)
        done = subprocess.run(
            self._mounts.command(*identity, *self._service.command(person, *options)),
            input="".join(f"={code}\n" for code in codes), capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        return Outcome(done.stdout.splitlines()[-1])

    @property
    def is_confirmed(self) -> bool:
        return (self.place / login_note.NOTE).exists()

    def notes(self) -> list[str]:
        """Return the names of the notes of accepted codes."""
        names = (path.name for path in self.place.iterdir())
        return [name.removeprefix(login_note.ACCEPTED) for name in names if name.startswith(login_note.ACCEPTED)]


@pytest.fixture
def waiting(world: Path, installed: Installation, pam: Pam) -> Iterator[Waiting]:
    place = Path(tempfile.mkdtemp(prefix="note-", dir=world))
    place.chmod(0o755)
    mounts = PrivateMounts(place / "host")
    yield Waiting(mounts, pam.stack(installed.line() + PERMIT))
    mounts.close()
    shutil.rmtree(place)


def test_note__of_the_same_login_confirms(waiting: Waiting, alice: Person, phone: Phone) -> None:
    assert waiting.log_in(alice, phone.totp(), options=(SETCRED,)).result == PAM_SUCCESS
    assert waiting.is_confirmed
    assert waiting.notes() == []


def test_note__of_a_refused_login_is_confirmed_by_no_other_login(waiting: Waiting, alice: Person, phone: Phone) -> None:
    """A host reaches setcred only if nothing has refused. This host does not, after an accepted code."""
    assert waiting.log_in(alice, phone.totp()).result == PAM_SUCCESS
    (note,) = waiting.notes()
    names = (
        note,
        note.upper(),
        note[:-1],
        f"../{waiting.place.name}/{login_note.ACCEPTED}{note}",
        alice.name,
        "",
        "0" * 16,
    )
    for name in names[1:]:
        variable = f"--variable={login_note.VARIABLE}={name}"
        assert waiting.log_in(alice, options=(SETCRED, WITHOUT_CODE, variable)).setcred == PAM_SUCCESS
    for options in ((), ("--item=ruser=" + alice.name,)):
        waiting.log_in(alice, options=(SETCRED, WITHOUT_CODE, *options))
    assert not waiting.is_confirmed
    assert waiting.notes() == [note]
    # A wrong code after it, in a handle that knows the note, does not confirm it either.
    known = f"--variable={login_note.VARIABLE}={note}"
    assert waiting.log_in(alice, "000000", options=(SETCRED, known)).result != PAM_SUCCESS
    assert not waiting.is_confirmed


def test_note__is_made_and_moved_by_no_program_without_root(waiting: Waiting, alice: Person, phone: Phone) -> None:
    """A user runs their own PAM host under the service's name, with a right code."""
    assert waiting.log_in(alice, phone.totp(), options=(SETCRED,), run_as=alice).result == PAM_SUCCESS
    assert (waiting.is_confirmed, waiting.notes()) == (False, [])
    assert waiting.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    (note,) = waiting.notes()
    variable = f"--variable={login_note.VARIABLE}={note}"
    waiting.log_in(alice, options=(SETCRED, WITHOUT_CODE, variable), run_as=alice)
    assert (waiting.is_confirmed, waiting.notes()) == (False, [note])


@pytest.mark.parametrize("service", ["..", ".", "a/b", "../sudo", ""])
def test_note__service_name_with_a_path_has_no_note(service: str) -> None:
    assert not login_note.is_waited_for(service, "alice")
