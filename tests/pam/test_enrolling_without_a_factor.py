"""Try to enrol in a login without a first factor, or to get in without enrolling. All with real PAM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PERMIT, Service
from tests.support.installation import Installation
from tests.support.leak import keep_answer
from tests.support.newcomer import Talk, lines
from tests.support.pam_scene import Pam
from tests.support.system_log import SystemLog

SYSTEM_MODULES = Path(f"/lib/{sys.implementation._multiarch}/security")
ASKS_AND_FORGETS = "auth optional pam_exec.so quiet expose_authtok /bin/true\n"
"""Pass any typed text to PAM as a password, without a check."""
ACCOUNT = "account required pam_permit.so\n"
NO_FACTORS = {
    "pam_exec": "auth required pam_exec.so quiet expose_authtok /bin/true\n",
    "pam_exec whose answer decides": "auth [success=ok default=die] pam_exec.so quiet expose_authtok /bin/true\n",
    "pam_permit": "auth requisite pam_permit.so\n",
    "pam_echo": "auth required pam_echo.so\n",
    "pam_succeed_if": "auth requisite pam_succeed_if.so quiet uid >= 0\n",
    "pam_localuser": "auth requisite pam_localuser.so\n",
    "pam_debug": "auth required pam_debug.so auth=success\n",
    "a module that nobody knows": "auth required MODULES/pam_script.so quiet expose_authtok /bin/true\n",
    "a module with the name of one that checks in its arguments": (
        "auth required pam_exec.so quiet expose_authtok /bin/true pam_unix.so\n"
    ),
    "a password that some hop over": (
        "auth [success=1 default=ignore] pam_localuser.so\nauth required pam_unix.so nodelay\n"
    ),
    "a password that does not count": "auth [success=ok default=ignore] pam_unix.so nodelay\n",
    "a password in a substack that forgets": "auth substack inner\n",
    "a password whose refusal is taken back": (
        "auth substack required-unix\n"
        "auth [default=reset] pam_permit.so\n"
    ),
}  # fmt: skip
FILES = {
    "inner": "auth required pam_unix.so nodelay\nauth [default=reset] pam_permit.so\n",
    "required-unix": "auth required pam_unix.so nodelay\n",
}


@pytest.mark.parametrize("front", NO_FACTORS)
def test_module__that_proves_nothing_does_not_count_as_a_first_factor(
    pam: Pam, installed: Installation, alice: Person, outside: Path, system_log: SystemLog, front: str
) -> None:
    shutil.copy(SYSTEM_MODULES / "pam_exec.so", outside / "pam_script.so")
    text = ASKS_AND_FORGETS + NO_FACTORS[front].replace("MODULES", str(outside))
    service = pam.stack(text + lines(installed) + PERMIT + ACCOUNT)
    for name, content in FILES.items():
        (service.directory / name).write_text(content)
    with Talk(service, alice) as talk:
        talk.go_on(password="wrong")
    assert not talk.let_in
    assert "otpauth" not in talk.text
    assert not alice.store.exists()
    assert system_log.reasons() == ["not_enrolled"]
    assert any("before ours" in line for line in system_log.ours())


NOT_OURS = {
    "our name as an argument": "account required pam_permit.so pam_softtoken.so enrol\n",
    "our name as an argument in brackets": "account required pam_permit.so [pam_softtoken.so] enrol\n",
    "our directory as an argument": "account required pam_permit.so /usr/lib/pam_softtoken/pam_module.py\n",
    "a name that begins like ours": "account required MODULES/pam_softtoken.so.old enrol\n",
    "a name that ends like ours": "account required MODULES/not_pam_softtoken.so enrol\n",
    "in a comment that is too long to be one": "# " + "x" * 1021 + "account sufficient pam_permit.so\nOURS",
    "behind what a long line hides": (
        "account optional pam_permit.so " + "x" * (1023 - 31) + "account sufficient pam_permit.so\nOURS"
    ),
    "behind the end of a line of DOS": "account sufficient pam_permit.so\r\nOURS",
}  # fmt: skip


@pytest.mark.parametrize("account", NOT_OURS)
def test_account_line__that_only_looks_like_ours_lets_nobody_in(
    pam: Pam, installed: Installation, alice: Person, outside: Path, system_log: SystemLog, account: str
) -> None:
    for name in ("pam_softtoken.so.old", "not_pam_softtoken.so"):
        shutil.copy(SYSTEM_MODULES / "pam_permit.so", outside / name)
    auth, ours = lines(installed).splitlines(keepends=True)
    second = NOT_OURS[account].replace("MODULES", str(outside)).replace("OURS", ours)
    service = pam.stack("auth required pam_unix.so nodelay\n" + auth + PERMIT + second + ACCOUNT)
    with Talk(service, alice) as talk:
        talk.go_on()
    assert not talk.let_in
    assert "otpauth" not in talk.text
    assert not alice.store.exists()
    assert system_log.reasons() == ["not_enrolled"]


@pytest.mark.parametrize("second", ["nullok", "enrol", "required_from=2999-12-31"])
def test_second_line__of_ours_cannot_skip_the_enrolment_of_the_first(
    pam: Pam, installed: Installation, alice: Person, outside: Path, system_log: SystemLog, second: str
) -> None:
    """The second line looks at other tokens, and forgets the users whom the first one has marked."""
    (outside / "stores").mkdir(mode=0o700)
    auth, account = lines(installed).splitlines(keepends=True)
    other = installed.line(f"store={outside}/stores/%U", second)
    service = pam.stack("auth requisite pam_unix.so nodelay\n" + auth + other + PERMIT + account + ACCOUNT)
    with Talk(service, alice) as talk:
        talk.go_on()
    assert not talk.let_in
    assert "otpauth" not in talk.text
    assert any("more than one auth line" in line for line in system_log.ours())


# ---- applications that do not finish the work of the auth line


@pytest.fixture
def enrols(pam: Pam, installed: Installation) -> Service:
    """A service in which users enrol in the login, if the program is one of those that finish it."""
    return pam.stack("auth requisite pam_unix.so nodelay\n" + lines(installed) + PERMIT + ACCOUNT)


def _in_place_of_pam_d(service: Service, *command: str, typed: str = "") -> str:
    script = 'mount --bind "$0" /etc/pam.d && exec "$@"'
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(service.directory)]
    return subprocess.run([*alone, *command], input=typed, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("options", [[], ["--account"]], ids=["never asks about the account", "unknown"])
@pytest.mark.parametrize("name", ["client", "login"])
def test_host__not_known_to_run_the_account_phase_lets_nobody_in(
    enrols: Service, alice: Person, outside: Path, system_log: SystemLog, options: list[str], name: str
) -> None:
    keep_answer(alice.password)
    program = str(shutil.copy(enrols.installed.client, outside / name))
    _, *words = enrols.command(alice, *options)
    words.remove(f"--confdir={enrols.directory}")
    told = _in_place_of_pam_d(enrols, program, *words, typed=f"={alice.password}\n=000000\n")
    assert json.loads(told)["result"] == PAM_AUTH_ERR
    assert system_log.reasons() == ["not_enrolled"]
    assert any(f"{program} is not known to finish an enrolment" in line for line in system_log.ours())


TWO_HANDLES = """\
import sys
import pamela
user, service, *answers = sys.argv[1:]
try:
    pamela.authenticate(user, answers, service=service)
    pamela.check_account(user, service=service)
    print("in")
except pamela.PAMError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("service_name", ["softtoken-test", "login"])
def test_host__with_the_account_phase_on_another_handle_lets_nobody_in(
    enrols: Service, alice: Person, system_log: SystemLog, service_name: str
) -> None:
    """As JupyterHub does, as root, and with the service of login."""
    keep_answer(alice.password)
    if service_name != enrols.name:
        os.rename(enrols.directory / enrols.name, enrols.directory / service_name)
    words = [sys.executable, "-c", TWO_HANDLES, alice.name, service_name, alice.password, "000000"]
    assert _in_place_of_pam_d(enrols, *words).strip() == str(PAM_AUTH_ERR)
    assert "enrolled" not in system_log.reasons()
    assert any("is not known to finish an enrolment" in line for line in system_log.ours())
