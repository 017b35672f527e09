"""Real hosts in private mount namespaces. Each fixture removes what it made."""

from __future__ import annotations

import pwd
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.enabling import Admin, DebianSSH
from tests.support.fresh_debian import FreshDebian, pam_files
from tests.support.hosts import SSH, Host, Login, Su, Sudo
from tests.support.installation import Installation
from tests.support.packages import NAMES, Packages, build_as_maintainer, build_by_script, copy_of_the_tree
from tests.support.private_mounts import PrivateMounts
from tests.support.shared import made_once
from tests.support.signed_sudo import Laptop, SignedSudo
from tests.support.system_log import SystemLog
from tests.system.scenario import SLOW

HOSTS: dict[str, tuple[type[Host], bool]] = {
    "sshd with password": (SSH, True),
    "sshd with key": (SSH, False),
    "sudo with password": (Sudo, True),
    "sudo with code only": (Sudo, False),
    "su with password": (Su, True),
    "su with code only": (Su, False),
    "login with password": (Login, True),
    "login with code only": (Login, False),
}
EVERY_HOST = list(HOSTS)
RESIDENCES = ("homes-cli", "homes-hostile", "homes-limits")
"""The homes of users who stay for all tests of a folder or file; the same process may run these before."""
PASSWORD_HOSTS = [name for name, (_, password) in HOSTS.items() if password]
BackendRemover = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def mounts(world: Path) -> Iterator[PrivateMounts]:
    """A mount namespace for the hosts of one test."""
    if not PrivateMounts.possible():
        pytest.skip("needs CAP_SYS_ADMIN: the hosts see PAM services of their own in a private mount namespace")
    directory = Path(tempfile.mkdtemp(prefix="host-", dir=world))
    directory.chmod(0o755)
    made = PrivateMounts(directory / "mounts")
    yield made
    made.close()


@pytest.fixture
def system_log(mounts: PrivateMounts) -> SystemLog:
    """Everything that the hosts of the test log. The machine's own log is not touched."""
    return mounts.log


@pytest.fixture
def make_host(mounts: PrivateMounts, make_person: Callable[[], Person]) -> Iterator[Callable[[str], Host]]:
    """Return a function that makes a host by its name in `HOSTS`."""
    servers: list[SSH] = []

    def make(name: str) -> Host:
        kind, password = HOSTS[name]
        if kind is SSH:
            servers.append(SSH(mounts, password=password))
            return servers[-1]
        if kind is Su:
            return Su(mounts, make_person(), password=password)
        return kind(mounts, password=password)

    yield make
    for server in servers:
        server.close()


@pytest.fixture(params=EVERY_HOST)
def host(request: pytest.FixtureRequest, make_host: Callable[[str], Host]) -> Host:
    """Each of the hosts, or the ones that the test names."""
    return make_host(request.param)


@pytest.fixture
def admin(mounts: PrivateMounts, installed: Installation) -> Iterator[Admin]:
    """Root at a terminal of a host."""
    made = Admin(mounts, installed)
    yield made
    made.kill_watchdogs()


@pytest.fixture
def laptop() -> Laptop:
    """A key that signs."""
    return Laptop()


@pytest.fixture
def alices_sudo(mounts: PrivateMounts, alice: Person, laptop: Laptop) -> SignedSudo:
    """A host where sudo asks the user for signatures of the laptop."""
    host = SignedSudo(mounts)
    host.enrol(alice, laptop)
    return host


@pytest.fixture
def phone(alice: Person, installed: Installation) -> Phone:
    """The token of an enrolled user."""
    return alice.enrol(installed, SLOW)


@pytest.fixture
def sshd(mounts: PrivateMounts) -> Iterator[Callable[[bool], DebianSSH]]:
    """Return a function that starts an sshd with Debian's configuration, with passwords or with keys."""
    servers: list[DebianSSH] = []

    def make(password: bool) -> DebianSSH:
        servers.append(DebianSSH(mounts, password=password))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def remove_backend(installed: Installation) -> BackendRemover:
    """Remove the backend of a live stack, for the length of a `with` block."""

    @contextmanager
    def remove() -> Iterator[None]:
        aside = installed.backend.with_suffix(".aside")
        installed.backend.rename(aside)
        try:
            yield
        finally:
            aside.rename(installed.backend)

    return remove


def _build_as_maintainer(directory: Path) -> None:
    build_as_maintainer(copy_of_the_tree(directory / "pam-softtoken"))


@pytest.fixture(scope="session")
def packages(shared: Path) -> Packages:
    """The Debian packages, as a maintainer builds them, beside the clone of the repository where they are built."""
    return Packages(made_once(shared / "packages", _build_as_maintainer))


@pytest.fixture(scope="session")
def newer_packages(shared: Path) -> Packages:
    """The same packages in a higher version, as `scripts/install` builds them."""
    return Packages(made_once(shared / "newer-packages", build_by_script))


@pytest.fixture(scope="session")
def fresh_debian(world: Path) -> Iterator[FreshDebian]:
    """A fresh Debian for the tests of one session. Each test removes what it has added."""
    if why_not := FreshDebian.why_not():
        pytest.skip(why_not)
    directory = world / "fresh-debian"
    directory.mkdir(mode=0o755)
    made = FreshDebian(directory)
    yield made
    made.close()


@pytest.fixture
def debian(fresh_debian: FreshDebian) -> Iterator[FreshDebian]:
    """A fresh Debian without any of our files, before and afterwards."""
    before = pam_files(fresh_debian)
    fresh_debian.log.clear()
    yield fresh_debian
    for path in fresh_debian.path("/etc/pam.d").iterdir():
        if path.name not in before:
            path.unlink()
    for name, content in before.items():
        fresh_debian.path(f"/etc/pam.d/{name}").write_bytes(content)
    fresh_debian.purge(*NAMES)


@pytest.fixture(autouse=True)
def only_users_of_this_test() -> Iterator[None]:
    """Remove the users of other tests for as long as a test lasts: `enable` would have to name them."""
    gone = [entry for entry in pwd.getpwall() if Path(entry.pw_dir).parent.name in RESIDENCES]
    hashes = {each.pw_name: _run("getent", "shadow", each.pw_name).split(":")[1] for each in gone}
    for each in gone:
        _run("userdel", "--force", each.pw_name)
    yield
    for each in gone:
        _run("groupadd", "--gid", str(each.pw_gid), each.pw_name)
        ids = ("--uid", str(each.pw_uid), "--gid", str(each.pw_gid), "--password", hashes[each.pw_name])
        _run("useradd", *ids, "--no-create-home", "--home-dir", each.pw_dir, "--shell", each.pw_shell, each.pw_name)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
