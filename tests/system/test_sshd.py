"""Check what only sshd has: keys, several answers in one connection, several connections at once, unknown users."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pam_softtoken.account import state_format
from pam_softtoken.login import throttle
from tests.support.account import Person
from tests.support.client import PAM_SUCCESS, Service
from tests.support.hosts import SSH, Host
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, rewrite_state
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until
from tests.support.system_log import SystemLog
from tests.system.scenario import SLOW, wrong_code
from tests.system.test_every_host import backends, wait_for_end_of_backend

WITH_PASSWORD, WITH_KEY = "sshd with password", "sshd with key"


class Stranger(Person):
    """A user whom this machine does not know.

    Args:
        homes: the directory of the homes.
    """

    def __init__(self, homes: Path) -> None:
        self.name, self.password, self.home = "stranger", "a password", homes / "stranger"


@pytest.fixture(params=[WITH_PASSWORD, WITH_KEY])
def sshd(request: pytest.FixtureRequest, make_host: Callable[[str], Host]) -> SSH:
    """An sshd of each kind, or of the one that the test names."""
    made = make_host(request.param)
    assert isinstance(made, SSH)
    return made


def test_sshd__mistyped_code_is_corrected_in_the_same_connection(
    sshd: SSH, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    sshd.use_stack(installed.line())
    sshd.allow_tries(2)
    phone = alice.enrol(installed, SLOW)
    visit = sshd.log_in(alice, wrong_code(phone), phone.totp())
    assert visit.entered_as == alice.name, visit
    assert visit.prompts == [*sshd.first_prompts, "code"] * 2
    assert system_log.reasons() == ["mismatch", "accepted"]


def test_sshd__same_code_in_four_logins_at_once_lets_in_one(
    sshd: SSH, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    sshd.use_stack(installed.line())
    code = alice.enrol(installed, SLOW).totp()
    with ThreadPoolExecutor(4) as people:
        visits = list(people.map(lambda _: sshd.log_in(alice, code), range(4)))
    assert sorted(visit.entered_as for visit in visits) == ["", "", "", alice.name], visits
    assert sorted(system_log.reasons()) == ["accepted", "replayed", "replayed", "replayed"]


@pytest.mark.parametrize("sshd", [WITH_KEY], indirect=True)
def test_sshd__two_codes_in_a_row_in_one_connection_end_a_wait(
    sshd: SSH, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    """Answers of another user from the same address, in another connection, do not end the pair of codes."""
    sshd.use_stack(installed.line())
    phone = alice.enrol(installed, "--type=hotp")
    rewrite_state(alice, lambda present: present.with_wrong(throttle.REMOTE, 30, int(time.time())))

    def noted() -> str:
        _, present = state_format.decode((alice.store / "state").read_bytes(), path="state")
        (key,) = present.notes
        return key

    keys = []
    for counter in (0, 2):
        assert not sshd.log_in(alice, phone.hotp_at(counter)).entered_as
        keys.append(noted())
    assert keys[0][:16] == keys[1][:16]
    assert keys[0] != keys[1]
    sshd.allow_tries(2)
    visit = sshd.log_in(alice, phone.hotp_at(5), phone.hotp_at(6))
    assert visit.entered_as == alice.name, visit
    assert system_log.reasons()[-2:] == ["throttled", "accepted"]


@contextmanager
def sshd_with(mounts: PrivateMounts, settings: str) -> Iterator[SSH]:
    """Run an sshd with its own settings."""
    made = SSH(mounts, password=True, settings=settings)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.lockout("sshd takes one answer in a connection (MaxAuthTries 1), and the owner has to wait")
def test_sshd__two_codes_in_a_row_may_come_in_two_connections_of_one_answer(
    mounts: PrivateMounts, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    with sshd_with(mounts, "MaxAuthTries 1\n") as sshd:
        sshd.use_stack(installed.line())
        sshd.allow_tries(3)
        visit = sshd.log_in(alice, "000000", phone.hotp_at(0))
        assert (visit.prompts, visit.entered_as) == (["password", "code"], ""), visit
        wait_for_end_of_backend(installed)
        rewrite_state(alice, lambda present: present.with_wrong(throttle.REMOTE, 30, int(time.time())))
        assert not sshd.log_in(alice, phone.hotp_at(0)).entered_as
        wait_for_end_of_backend(installed)
        visit = sshd.log_in(alice, phone.hotp_at(1))
        assert visit.entered_as == alice.name, visit
    assert system_log.reasons() == ["mismatch", "throttled", "accepted"]


@pytest.mark.lockout("sshd cuts a login off while it waits for its code (LoginGraceTime)")
def test_sshd__that_cuts_a_login_off_leaves_no_backend_and_no_lock(
    mounts: PrivateMounts, installed: Installation, alice: Person, service: Service
) -> None:
    phone = alice.enrol(installed, SLOW, NO_CODES)
    with sshd_with(mounts, "LoginGraceTime 3\n") as sshd:
        sshd.use_stack(installed.line())
        for _ in range(10):
            with sshd.session(alice) as visit:
                if "code" in visit.prompts:  # otherwise a slow machine has not come as far as that
                    wait_until(lambda: not backends(installed), "sshd to cut the login off")
                    break
        else:
            raise AssertionError("no login came as far as its code")
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("sshd", [WITH_KEY], indirect=True)
def test_sshd__without_the_key_no_code_is_asked_for(
    sshd: SSH, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    sshd.use_stack(installed.line())
    phone = alice.enrol(installed, SLOW)
    sshd.knows_key = False
    visit = sshd.log_in(alice, phone.totp())
    assert not visit.entered_as, visit
    assert visit.prompts == []
    assert system_log.ours() == []


@pytest.mark.parametrize("sshd", [WITH_PASSWORD], indirect=True)
def test_sshd__unknown_user_is_asked_and_refused_like_others(
    sshd: SSH, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    sshd.use_stack(installed.line("nullok"))
    phone = alice.enrol(installed, SLOW)
    wrong = sshd.log_in(alice, wrong_code(phone))
    system_log.clear()
    stranger = Stranger(alice.home.parent)
    visit = sshd.log_in(stranger, "123456")
    assert not visit.entered_as, visit
    assert visit.prompts == ["password", "code"]
    assert visit.screen.replace(stranger.name, "NAME") == wrong.screen.replace(alice.name, "NAME")
    # The name may be a password that was typed too early, so it is not logged.
    assert system_log.ours() == [
        "pam_softtoken(sshd:auth): user=(unknown) rhost=127.0.0.1 result=denied reason=unknown_user"
    ]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), marks=pytest.mark.lockout("libpam was upgraded while sshd was running")),
        pytest.param(
            ("-r",), marks=pytest.mark.lockout("libpam was upgraded under an sshd with the old one in memory")
        ),
    ],
    ids=["executed anew for each connection", "forked for each connection"],
)
def test_sshd__started_before_an_upgrade_of_libpam_accepts_a_code_once(
    mounts: PrivateMounts, installed: Installation, alice: Person, options: tuple[str, ...]
) -> None:
    (libpam,) = {path.resolve() for path in Path("/lib").glob("*/libpam.so.0")}
    new = mounts.directory / "libpam"
    sshd = SSH(mounts, password=True, options=options)
    try:
        sshd.use_stack(installed.line())
        phone = alice.enrol(installed, SLOW)
        shutil.copy(libpam, new)
        subprocess.run(mounts.command("mount", "--bind", str(new), str(libpam)), check=True)
        code = phone.totp()
        visits = [sshd.log_in(alice, code) for _ in range(2)]
        assert [visit.entered_as for visit in visits] == [alice.name, ""], visits
    finally:
        sshd.close()
