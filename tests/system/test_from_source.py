"""Install from source into a layout that Debian does not have, and log in there. The services are as Fedora and Arch
write theirs: the same modules and controls. Those machines were not there to try.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pam_softtoken import __version__
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome
from tests.support.installation import TREE, Installation

PYTHON = "/opt/python/bin/python3"
"""A virtual environment: it has site-packages, as every Python outside Debian."""
HOME = "/usr/local/lib/pam_softtoken"
MODULE = "/usr/local/lib64/security/pam_softtoken.so"

FEDORA_AUTH = """\
auth        required      pam_env.so
auth        required      pam_faildelay.so delay=0
auth        sufficient    pam_unix.so nullok
auth        required      pam_deny.so
account     required      pam_unix.so
"""
ARCH_AUTH = """\
auth       required                    pam_faillock.so      preauth
-auth      [success=2 default=ignore]  pam_systemd_home.so
auth       [success=1 default=bad]     pam_unix.so          try_first_pass nullok nodelay
auth       [default=die]               pam_faillock.so      authfail
auth       optional                    pam_permit.so
auth       required                    pam_env.so
auth       required                    pam_faillock.so      authsucc
account    required                    pam_unix.so
"""
SUDO = "#%PAM-1.0\nauth       include      system-auth\naccount    include      system-auth\n"
DENY = "auth required pam_deny.so\naccount required pam_deny.so\n"


def including(name: str) -> str:
    return f"#%PAM-1.0\nauth      include   {name}\naccount   include   {name}\n"


SERVICES = {
    "fedora": {
        "password-auth": FEDORA_AUTH,
        "system-auth": FEDORA_AUTH,
        "postlogin": "session optional pam_umask.so silent\n",
        "sshd": "auth substack password-auth\nauth include postlogin\naccount required pam_nologin.so\n"
        "account include password-auth\n",
        "sudo": SUDO,
        "other": DENY,
    },
    "arch": {
        "system-auth": ARCH_AUTH,
        "system-login": "auth required pam_shells.so\nauth requisite pam_nologin.so\n" + including("system-auth"),
        "system-remote-login": including("system-login"),
        "sshd": including("system-remote-login"),
        "sudo": SUDO,
        "other": DENY,
    },
}
_INSIDE = """
mount --bind "$1/opt" /opt
mount --bind "$1/usr/local" /usr/local
mount -t tmpfs tmpfs /run
[ ! -d "$1/pam.d" ] || mount --bind "$1/pam.d" /etc/pam.d
shift
exec "$@"
"""
_PLAN = f"""
import sys
sys.path.insert(0, "{HOME}/{__version__}")
from pam_softtoken.admin.change.plan import Plan
plan = Plan(sys.argv[1], "password", nullok=False)
open(f"/etc/pam.d/{{sys.argv[1]}}", "w").write(plan.text)
"""


class SourceHost:
    """This machine with another /usr/local, /opt and /etc/pam.d."""

    def __init__(self, root: Path, client: Path) -> None:
        self.root = root
        self._client = client

    def run(self, *words: str, typed: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        around = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _INSIDE, "sh", str(self.root)]
        done = subprocess.run([*around, *words], input=typed, capture_output=True, text=True, check=False, timeout=300)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def use(self, services: dict[str, str]) -> None:
        """Replace all services."""
        directory = self.root / "pam.d"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for name, text in services.items():
            (directory / name).write_text(text)

    def log_in(self, service: str, person: Person, *answers: str) -> Outcome:
        """Log in through real libpam."""
        typed = "".join(f"={answer}\n" for answer in answers)
        words = [str(self._client), "--confdir=/etc/pam.d", service, person.name]
        return Outcome(self.run(*words, typed=typed).stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def layout(world: Path) -> Path:
    """What `scripts/build` installs for that Python."""
    root = world / "from-source"
    for name in ("opt", "usr/local"):
        (root / name).mkdir(parents=True)
    host = SourceHost(root, root)
    host.run("/usr/bin/python3", "-m", "venv", "--without-pip", "--copies", "/opt/python")
    (site,) = (root / "opt/python/lib").glob("python3.*/site-packages")
    host.run("cp", "-r", "/usr/lib/python3/dist-packages/segno", f"/opt/python/lib/{site.parent.name}/site-packages/")
    options = ["--destdir", str(root), "--prefix", "/usr/local", "--libdir", "/usr/local/lib64", "--python", PYTHON]
    host.run("env", f"BUILD_DIR={root}/build", str(TREE / "scripts/build"), *options)
    return root


@pytest.fixture
def host(layout: Path, installed: Installation) -> SourceHost:
    return SourceHost(layout, installed.client)


def enrol(host: SourceHost, person: Person) -> Phone:
    words = [
        "/usr/local/bin/softtoken-enroll",
        "--user",
        person.name,
        "--no-confirm",
        "--json",
        "--qr",
        "none",
        "--type",
        "hotp",
    ]
    return Phone(json.loads(host.run(*words).stdout))


def test_source__every_path_is_the_chosen_one(layout: Path) -> None:
    for name in (
        "bin/softtoken",
        "bin/softtoken-enroll",
        "sbin/softtoken-admin",
        "lib/pam_softtoken/bin/softtoken-backend",
    ):
        first, *rest = (layout / "usr/local" / name).read_text().splitlines()
        assert first == f"#!{PYTHON} -I"
        assert [line for line in rest if line.startswith("sys.path.insert(")] == [
            f'sys.path.insert(0, "{HOME}/{__version__}")'
        ]
    module = Path(f"{layout}{MODULE}").read_bytes()
    assert f"{HOME}/bin/softtoken-backend\0".encode() in module
    assert f"{PYTHON}\0".encode() in module
    assert b"/usr/bin/python3" not in module
    facts = (layout / f"usr/local/lib/pam_softtoken/{__version__}/pam_softtoken/platform_facts.py").read_text()
    assert "/opt/python/lib/python3." in facts.split("LIBRARIES = ")[1].splitlines()[0]
    assert "/usr/local/bin/softtoken-enroll --self" in (layout / "etc/sudoers.d/softtoken").read_text()
    assert "=/usr/local/sbin/softtoken-admin roll-back" in next(layout.rglob("*.service")).read_text()


def test_source__logins_use_the_bundle(host: SourceHost) -> None:
    """-X importtime lists what is imported from files. The backend ends at once: it has no bridge."""
    words = [PYTHON, "-I", "-S", "-X", "importtime", f"{HOME}/bin/softtoken-backend"]
    assert "pam_softtoken.login" not in host.run(*words, check=False).stderr
    bundle = f"{HOME}/{__version__}/pam_softtoken/login.*.bundle"
    without = f"mount -t tmpfs tmpfs /mnt; : >/mnt/empty; mount --bind /mnt/empty {bundle}; exec {' '.join(words)}"
    assert "pam_softtoken.login" in host.run("sh", "-euc", without, check=False).stderr


@pytest.mark.parametrize("service", ["sshd", "sudo"])
@pytest.mark.parametrize("distribution", SERVICES)
def test_source__a_code_lets_in_once_behind_the_services_of(
    distribution: str, service: str, host: SourceHost, alice: Person
) -> None:
    host.use(SERVICES[distribution])
    password = alice.password
    assert host.log_in(service, alice, password).result == PAM_SUCCESS
    host.run(PYTHON, "-I", "-c", _PLAN, service)
    phone = enrol(host, alice)
    code = phone.hotp()
    assert host.log_in(service, alice, "wrong", code).result != PAM_SUCCESS
    assert host.log_in(service, alice, password, "000000").result == PAM_AUTH_ERR
    code = phone.hotp()
    assert host.log_in(service, alice, password, code).result == PAM_SUCCESS
    assert host.log_in(service, alice, password, code).result == PAM_AUTH_ERR


def test_source__doctor_finds_no_fault_in_the_services(host: SourceHost) -> None:
    host.use(SERVICES["fedora"])
    host.run(PYTHON, "-I", "-c", _PLAN, "sudo")
    report = json.loads(host.run("/usr/local/sbin/softtoken-admin", "doctor", "--json", check=False).stdout)
    # Nobody is enrolled, and that is the only error.
    errors = [each for each in report["findings"] if "/pam" in each["place"] and each["severity"] == "error"]
    assert {each["family"] for each in errors} == {"users"}
    assert any("PAM services with our line: sudo, of " in each for each in report["looked_at"]), report
