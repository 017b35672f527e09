"""Limit `nullok` to users who never enrolled: the first accepted code leaves a mark."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, PERMIT, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES
from tests.support.system_log import SystemLog

MARKS = Path("/var/lib/softtoken/enrolled")


@pytest.fixture
def nullok(installed: Installation, make_service: Callable[[str], Service]) -> Service:
    """A stack that lets in users who never enrolled."""
    return make_service(installed.line("nullok") + PERMIT)


def _log_in_once(installed: Installation, service: Service, person: Person) -> None:
    phone = person.enrol(installed, "--period=300")
    assert service.log_in(person, phone.totp()).result == PAM_SUCCESS


def test_nullok__user_without_a_token_is_let_in_without_a_prompt(nullok: Service, alice: Person) -> None:
    outcome = nullok.log_in(alice)
    assert (outcome.result, outcome.prompts) == (PAM_SUCCESS, [])


@pytest.mark.parametrize("damage", ["directory deleted", "file deleted", "home emptied", "home gone"])
@pytest.mark.claim("`nullok` lets in no user who has once logged in with a code, whatever became of the files.")
def test_nullok__user_with_an_earlier_login_is_asked_even_without_files(
    installed: Installation, nullok: Service, alice: Person, system_log: SystemLog, damage: str
) -> None:
    _log_in_once(installed, nullok, alice)
    if damage == "file deleted":
        (alice.store / "tokens").unlink()
    elif damage == "directory deleted":
        shutil.rmtree(alice.store)
    else:
        for path in alice.home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if damage == "home gone":
        alice.home.rename(alice.home.with_suffix(".away"))
    outcome = nullok.log_in(alice, "123456")
    if damage == "home gone":
        alice.home.with_suffix(".away").rename(alice.home)
    assert outcome.result == PAM_AUTH_ERR
    assert len(outcome.prompts) == 1
    assert system_log.reasons()[-1] == ("no_home" if damage == "home gone" else "not_enrolled")


def test_nullok__the_user_cannot_take_the_mark_away_and_root_can(
    installed: Installation, nullok: Service, alice: Person
) -> None:
    _log_in_once(installed, nullok, alice)
    mark = MARKS / str(alice.uid)
    assert mark.stat().st_uid == 0
    for path in (mark, MARKS, MARKS.parent):
        assert not path.stat().st_mode & 0o022
    shutil.rmtree(alice.store)
    assert nullok.log_in(alice, "123456").result == PAM_AUTH_ERR
    mark.unlink()
    assert nullok.log_in(alice).result == PAM_SUCCESS


def test_nullok__an_application_without_root_sees_the_mark(
    installed: Installation, nullok: Service, alice: Person
) -> None:
    _log_in_once(installed, nullok, alice)
    shutil.rmtree(alice.store)
    assert nullok.log_in(alice, "123456", run_as=alice).result == PAM_AUTH_ERR


def _in_an_empty_var_lib(service: Service, person: Person, *steps: str) -> list[str]:
    """Run some steps of a shell with an empty /var/lib, and return their output. `log_in CODE` is one step."""
    script = "mount -t tmpfs -o mode=755 tmpfs /var/lib\n"
    script += f'log_in() {{ echo "=$1" | "${{@:2}}" {shlex.join(service.command(person))} >/dev/null; }}\n'
    command = ["unshare", "--mount", "--propagation=private", "bash", "-c", script + "\n".join(steps)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


MODES = "cd /var/lib && find . -mindepth 1 ! -path '*/.names/*' -printf '%m %P\\n' | LC_ALL=C sort -k 2"


@pytest.mark.parametrize("number", [1, 2], ids=["the first directory", "the second directory"])
@pytest.mark.parametrize("call", ["mkdir", "chmod,fchmod,fchmodat", "rename,renameat,renameat2"])
def test_mark__next_login_completes_the_directories_of_a_killed_one(
    installed: Installation, service: Service, alice: Person, call: str, number: int
) -> None:
    """The next login continues where it stopped. An application without root must reach the mark of its own user."""
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    kill = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={number}"]
    killed, following = (phone.hotp_at(counter) for counter in range(2))
    printed = _in_an_empty_var_lib(
        service,
        alice,
        f"log_in {killed} {shlex.join(kill)}",
        "find /var/lib -type f | wc -l",
        f"log_in {following}",
        MODES,
    )
    directories = [f"711 softtoken{below}" for below in ("", "/.names", "/enrolled")]
    assert printed == ["0", *directories, f"600 softtoken/enrolled/{alice.uid}"]


@pytest.mark.parametrize("closed", ["softtoken", "softtoken/enrolled"])
def test_mark__directory_that_an_administrator_has_closed_stays_closed(
    installed: Installation, service: Service, alice: Person, closed: str
) -> None:
    code = alice.enrol(installed, "--type=hotp", NO_CODES).hotp()
    make = f"mkdir -p /var/lib/softtoken && mkdir -p /var/lib/{closed} && chmod 0700 /var/lib/{closed}"
    printed = _in_an_empty_var_lib(service, alice, "umask 066", make, f"log_in {code}", MODES)
    assert f"700 {closed}" in printed
    assert [line.split()[0] for line in printed].count("711") == 2
    assert printed[-1] == f"600 softtoken/enrolled/{alice.uid}"
