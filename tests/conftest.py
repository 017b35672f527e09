"""Fixtures for all tests: an installed copy, people, PAM services, the system log. Each removes what it made."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support import sampling
from tests.support.account import Person
from tests.support.client import Service
from tests.support.cpu_time import Meter, summary
from tests.support.installation import TREE, Installation
from tests.support.pam_scene import Pam
from tests.support.shared import made_once, shared_directory
from tests.support.system_log import SystemLog

METER = Meter()
# A deadline for each example would fail on a busy machine.
hypothesis.settings.register_profile("here", deadline=None, max_examples=sampling.amount(100, full=1000))
hypothesis.settings.load_profile("here")


def pytest_configure() -> None:
    """Restore SIGHUP, which callers like nohup ignore. A closing terminal then ends its programs, as for users."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_report_header() -> str:
    """Return the line that says how to repeat this run."""
    return "sweeps: every case" if sampling.FULL else f"sweeps: a sample; TEST_SEED={sampling.SEED} repeats it"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases of sampled tests that are not in the sample."""
    left_out = sampling.deselected(items)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the CPU time to each report. Say with each failure how to repeat the sample."""
    report = yield
    report.cpu_s = METER.lap_s()  # type: ignore[attr-defined]
    if report.failed and not sampling.FULL:
        report.sections.append(("sample", f"TEST_SEED={sampling.SEED} repeats it"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the files whose tests take the most CPU time. TEST_CPU=yes lists all, and each test."""
    reports = [report for found in terminalreporter.stats.values() for report in found if hasattr(report, "cpu_s")]
    for line in summary(reports, by_test=os.environ.get("TEST_CPU") == "yes"):
        terminalreporter.write_line(line)
    left_out = [report for report in terminalreporter.stats.get("skipped", ()) if "needs " in str(report.longrepr)]
    if left_out:
        terminalreporter.write_line(f"{len(left_out)} tests named below were left out. sudo scripts/test runs them")


@pytest.fixture(scope="session")
def world() -> Iterator[Path]:
    """A directory that everybody can enter and only root can write."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes users and PAM services")
    path = Path(tempfile.mkdtemp(prefix="softtoken-test-"))
    path.chmod(0o755)
    # The processes that share the tests all hold this lock. The last one cleans up.
    tree = os.open(TREE, os.O_RDONLY)
    fcntl.flock(tree, fcntl.LOCK_SH)
    yield path
    shutil.rmtree(path)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(tree, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The module made these if they were missing. On a host that uses it, they are not empty.
        for directory in (
            "/run/softtoken",
            "/var/lib/softtoken/.names",
            "/var/lib/softtoken/enrolled",
            "/var/lib/softtoken/revoked",
            "/var/lib/softtoken/sign",
            "/var/lib/softtoken",
        ):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
    os.close(tree)


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """A directory of all processes of this run."""
    with shared_directory() as path:
        yield path


@pytest.fixture(scope="session")
def installed(world: Path, shared: Path) -> Installation:
    """The module, the backend and the programs, built from this tree by the first process that needs them."""
    built = made_once(shared / "built", lambda directory: Installation.make(directory / "installed"))
    return Installation.copied(built / "installed", world / "installed")


@pytest.fixture
def make_person(world: Path) -> Iterator[Callable[[], Person]]:
    """Return a function that makes users of the machine. They are removed after the test."""
    homes = world / "homes"
    homes.mkdir(mode=0o755, exist_ok=True)
    homes.chmod(0o755)
    people: list[Person] = []

    def make() -> Person:
        people.append(Person(homes))
        return people[-1]

    yield make
    for person in people:
        person.remove()


@pytest.fixture
def alice(make_person: Callable[[], Person]) -> Person:
    """A user without an enrolment."""
    return make_person()


@pytest.fixture
def make_service(world: Path, installed: Installation) -> Iterator[Callable[[str], Service]]:
    """Return a function that makes a PAM service in a private directory from the text of its stack."""
    directories: list[Path] = []

    def make(stack: str) -> Service:
        directories.append(Path(tempfile.mkdtemp(prefix="pam.d-", dir=world)))
        return Service(directories[-1], installed, stack)

    yield make
    for directory in directories:
        shutil.rmtree(directory)


@pytest.fixture
def service(make_service: Callable[[str], Service], installed: Installation) -> Service:
    """A stack with only our module and its defaults."""
    return make_service(installed.line())


@pytest.fixture
def outside(world: Path) -> Iterator[Path]:
    """A directory of root's that is nobody's home. Everybody can enter it."""
    path = Path(tempfile.mkdtemp(prefix="outside-", dir=world))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def pam(make_service: Callable[[str], Service], installed: Installation) -> Pam:
    """Return the factory for services with their own options."""
    return Pam(installed, make_service)


@pytest.fixture
def system_log() -> Iterator[SystemLog]:
    """Everything that is logged during the test."""
    log = SystemLog()
    yield log
    log.close()
