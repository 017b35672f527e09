"""Kill (SIGKILL) `softtoken-admin seal` at some of its system calls. Everybody gets in at once. The same command can be
run again. A sweep over all calls takes minutes, so an ordinary run kills at a few. TEST_SEED=N draws the same calls
again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import host_key
from tests.support.account import Person, Phone
from tests.support.client import PAM_SUCCESS
from tests.support.directory_service import DirectoryService
from tests.support.fault import CHANGING, Call, drawn
from tests.support.installation import Installation
from tests.support.pam_scene import Pam
from tests.support.private_mounts import PrivateMounts
from tests.support.sealed_host import TYPE_IT, SealedHost, shown_key

_SHARE = 0.03


class Scene:
    """A host with two users. Each `reset` restores all files of root's.

    Args:
        host: the host.
        people: the users.
        aside: a directory for the kept files; must not exist.
    """

    def __init__(self, host: SealedHost, people: list[Person], aside: Path) -> None:
        self.host = host
        self._aside = aside
        self._phones: list[tuple[Person, Phone]] = [(person, host.enrol(person)) for person in people]
        for person, phone in self._phones:
            assert host.log_in(person, phone.hotp())[0] == PAM_SUCCESS
        self._trace = host.directory.directory / "trace"

    def keep(self) -> None:
        """Keep the present files as those that `reset` restores."""
        for name, path in (("store", self.host.store), ("keys", self.host.keys)):
            shutil.rmtree(self._aside / name, ignore_errors=True)
            shutil.copytree(path, self._aside / name)

    def reset(self) -> None:
        """Restore the kept files."""
        for name, path in (("store", self.host.store), ("keys", self.host.keys)):
            for entry in path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            shutil.copytree(self._aside / name, path, dirs_exist_ok=True)

    def require_everybody_gets_in(self, number: int) -> None:
        """Check that all users get in with their code of a number, which no one has used."""
        for person, phone in self._phones:
            assert self.host.log_in(person, phone.hotp_at(number)) == (PAM_SUCCESS, 1, "accepted")

    def run(self, *words: str, expressions: tuple[str, ...] = ()) -> int:
        """Run the command, under strace if there are expressions, and type back what it shows. Return its status."""
        admin = str(self.host.program)
        options = [word for expression in expressions for word in ("-e", expression)]
        program = ("strace", "-o", str(self._trace), *options, admin) if expressions else (admin,)
        with self.host.start(*words, program=program) as dialogue:
            if dialogue.expect_or_end(TYPE_IT):
                dialogue.type(shown_key(dialogue.transcript))
            return dialogue.finish()

    def calls(self, *words: str) -> list[Call]:
        """List the calls of an undisturbed run that can change anything."""
        assert self.run(*words, expressions=("trace=all",)) == 0
        seen: Counter[str] = Counter()
        found = []
        for line in self._trace.read_text().splitlines():
            name = line.partition("(")[0]
            seen[name] += 1
            found.append(Call(name, seen[name], line))
        begin = next(place for place, call in enumerate(found) if "/etc/softtoken" in call.text)
        return [call for call in found[begin:] if call.name in CHANGING]

    def kill_at(self, call: Call, *words: str) -> None:
        """Run the command, and kill it as it enters a call."""
        status = self.run(
            *words, expressions=(f"trace={call.name}", f"inject={call.name}:signal=KILL:when={call.number}")
        )
        assert status == -9, "did not happen"

    def left_behind(self) -> str:
        """Describe what is in the users' directories: for each file, whether it is sealed."""
        found = []
        for path in sorted(self.host.store.glob("[0-9]*/*")):
            if path.name != "state":
                kind = "sealed" if path.read_bytes().startswith(b"softtoken-sealed ") else "plain"
                found.append(f"{path.name} {kind}")
        return ", ".join(found)


@pytest.fixture
def scene(world: Path, installed: Installation, pam: Pam, make_person: Callable[[], Person]) -> Iterator[Scene]:
    """A host with two users, in a namespace."""
    place = Path(tempfile.mkdtemp(prefix="sealed-", dir=world))
    place.chmod(0o755)
    mounts = PrivateMounts(place / "host")
    host = SealedHost(DirectoryService(mounts, installed), pam)
    yield Scene(host, [make_person(), make_person()], place / "kept")
    mounts.close()
    shutil.rmtree(place)


@pytest.mark.claim(
    "Turning seals on or off, or changing their key, lets everybody in all the time, also when killed at a call drawn "
    "by lot."
)
@pytest.mark.parametrize(
    ("word", "is_on"),
    [
        pytest.param("--on", True, marks=pytest.mark.lockout("softtoken-admin seal --on is killed")),
        pytest.param("--rotate", True, marks=pytest.mark.lockout("softtoken-admin seal --rotate is killed")),
        pytest.param("--off", False, marks=pytest.mark.lockout("softtoken-admin seal --off is killed")),
    ],
)
def test_killed_seal__lets_everybody_in_and_goes_on(scene: Scene, word: str, is_on: bool) -> None:
    if word != "--on":
        assert scene.run("--on") == 0
    scene.keep()
    calls = scene.calls(word)
    complaints = []
    for call in drawn(calls, _SHARE):
        scene.reset()
        try:
            scene.kill_at(call, word)
            scene.require_everybody_gets_in(1)
            assert scene.run(word) == 0, "the second run failed"
            scene.require_everybody_gets_in(2)
            assert scene.left_behind() == ", ".join([f"tokens {'sealed' if is_on else 'plain'}"] * 2)
            keys = [path.name for path in scene.host.keys.iterdir()]
            assert keys == (["host.key"] if is_on else [])
            assert not is_on or host_key.parse(scene.host.key_file.read_bytes()).others == ()
        except AssertionError as error:
            complaints.append(f"{call}: {str(error).splitlines()[0]}")
    assert not complaints, "\n".join(complaints)
