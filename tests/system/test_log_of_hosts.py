"""Run `softtoken-admin log` on real sshd, sudo and su with systemd's own journal, whatever local users do."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator

import pytest

from tests.support.account import Person, Phone
from tests.support.admin import Admin, succeeded
from tests.support.hosts import REST, Host
from tests.support.installation import Installation
from tests.support.journal import DAEMON, HostJournal
from tests.support.private_mounts import PrivateMounts
from tests.system.conftest import EVERY_HOST
from tests.system.scenario import SLOW, wrong_code

SET_UID_HOSTS = ["sudo with password", "su with code only"]


@pytest.fixture
def journal(mounts: PrivateMounts) -> Iterator[HostJournal]:
    """The journal as the hosts' system log."""
    if not DAEMON.exists():
        pytest.skip("needs the systemd package, for its journal")
    with HostJournal(mounts) as journal:
        yield journal


@pytest.fixture
def phone(alice: Person, installed: Installation) -> Phone:
    """The token of an enrolled user."""
    return alice.enrol(installed, SLOW, "--recovery-codes=0")


def shown(journal: HostJournal, installed: Installation, *options: str) -> list[dict[str, object]]:
    """Return what `softtoken-admin log` shows."""
    journal.entries()  # waits until all is written
    program = Admin(installed).after(*journal.inside)
    entries: list[dict[str, object]] = json.loads(succeeded(program.run("log", "--json", *options)))["entries"]
    return entries


def guess(host: Host, alice: Person) -> dict[str, object]:
    """Return the facts of a wrong guess, as root should read them."""
    uid = host.caller_uid_of(alice)
    who = {"service": host.service, "user": alice.name, "uid": uid or None, "rhost": host.rhost or None}
    return {**who, "result": "denied", "reason": "mismatch", "trial": False, "written_by_uid": 0}


@pytest.mark.parametrize("host", EVERY_HOST, indirect=True)
@pytest.mark.claim(
    "A local user who guesses at `su` or `sudo` is in the log, whatever that user calls the program or "
    "writes to the log."
)
def test_log__shows_guesser_and_application(
    host: Host, journal: HostJournal, installed: Installation, alice: Person, phone: Phone
) -> None:
    host.use_stack(installed.line())
    assert not host.log_in(alice, wrong_code(phone)).entered_as
    (entry,) = shown(journal, installed)
    assert entry.items() >= guess(host, alice).items()
    (written,) = journal.entries("SOFTTOKEN_REASON=mismatch")
    assert (written["_UID"], written["_TRANSPORT"]) == ("0", "journal")
    assert written.get("SOFTTOKEN_UID") == (str(entry["uid"]) if entry["uid"] else None)


NAMES = ["softtoken-admin", "sshd[1]: Invalid user x", "two\nlines", "x" * 20_000, "ö\x1b[2J"]


@pytest.mark.parametrize("name", NAMES, ids=["softtoken-admin", "a message", "two lines", "long", "odd"])
@pytest.mark.parametrize("host", SET_UID_HOSTS, indirect=True)
@pytest.mark.claim(
    "A local user who guesses at `su` or `sudo` is in the log, whatever that user calls the program or "
    "writes to the log."
)
def test_log__shows_guesses_for_any_name_of_the_guessers_program(
    host: Host, journal: HostJournal, installed: Installation, alice: Person, phone: Phone, name: str
) -> None:
    host.use_stack(installed.line())
    host.around = ["/bin/bash", "-c", 'exec -a "$0" "$@"', name]
    assert not host.log_in(alice, wrong_code(phone)).entered_as
    (entry,) = shown(journal, installed)
    assert entry.items() >= guess(host, alice).items()
    (written,) = journal.entries("SOFTTOKEN_REASON=mismatch")
    assert written["SYSLOG_IDENTIFIER"] == host.service


@pytest.mark.parametrize("host", SET_UID_HOSTS, indirect=True)
@pytest.mark.claim(
    "A local user who guesses at `su` or `sudo` is in the log, whatever that user calls the program or "
    "writes to the log."
)
def test_log__shows_guesses_though_the_guesser_floods_the_journal(
    host: Host, journal: HostJournal, installed: Installation, alice: Person, phone: Phone
) -> None:
    """The journal's queue is full, and stays full for longer than our module waits."""
    host.use_stack(installed.line())
    host.environment = {"PAM_SOFTTOKEN_TRIAL": "yes"}  # which is not a PAM variable
    journal.daemon.send_signal(signal.SIGSTOP)
    flooding = (
        "from socket import *\ns = socket(AF_UNIX, SOCK_DGRAM)\n"
        "s.setblocking(False)\ns.connect('/run/systemd/journal/socket')\n"
        "try:\n while True: s.send(b'MESSAGE=flood\\n')\nexcept BlockingIOError: pass\n"
    )
    as_alice = ("setpriv", f"--reuid={alice.uid}", f"--regid={alice.gid}", "--clear-groups")
    done = journal.run(*as_alice, "/usr/bin/python3", "-c", flooding)
    assert done.returncode == 0, done.stderr
    assert not host.log_in(alice, wrong_code(phone)).entered_as
    journal.daemon.send_signal(signal.SIGCONT)
    (entry,) = shown(journal, installed)
    assert entry.items() >= guess(host, alice).items()


@pytest.mark.parametrize("host", SET_UID_HOSTS, indirect=True)
def test_log__has_each_guess_once_if_the_journal_takes_no_fields(
    host: Host, journal: HostJournal, installed: Installation, alice: Person, phone: Phone
) -> None:
    host.use_stack(installed.line())
    assert journal.run("rm", "/run/systemd/journal/socket").returncode == 0
    assert not host.log_in(alice, wrong_code(phone)).entered_as
    (entry,) = shown(journal, installed)
    assert entry.items() >= guess(host, alice).items()
    (written,) = [each for each in journal.entries() if "result=" in str(each["MESSAGE"])]
    assert written["_TRANSPORT"] == "syslog"


@pytest.mark.parametrize("host", ["su with code only"], indirect=True)
def test_log__leaves_out_trials_of_doctor_and_enable(
    host: Host, journal: HostJournal, installed: Installation, alice: Person, phone: Phone
) -> None:
    host.use_stack(installed.line())
    program = Admin(installed).after(*journal.inside)
    program.run("doctor")
    host.mounts.set_service("sudo", "auth required pam_unix.so nodelay\n" + REST)
    assert "refuses a wrong one" in program.run("enable", "sudo", "--yes", "--force", "--for=1s").stderr
    assert not host.log_in(alice, wrong_code(phone)).entered_as
    deed, entry = shown(journal, installed)
    assert (deed["service"], deed["result"]) == ("softtoken-admin", "roll-back")
    assert entry.items() >= guess(host, alice).items()
    trials = [each["service"] for each in shown(journal, installed, "--all") if each["trial"]]
    assert set(trials) == {"softtoken-doctor", "softtoken-trial", "softtoken-trial-alone"}
    assert all(each["written_by_uid"] == 0 for each in shown(journal, installed, "--all"))
    assert len(journal.entries("SOFTTOKEN_TRIAL=yes")) == len(trials)


@pytest.mark.parametrize("name", NAMES, ids=["softtoken-admin", "a message", "two lines", "long", "odd"])
@pytest.mark.parametrize("host", SET_UID_HOSTS, indirect=True)
def test_syslog__has_guesses_under_the_name_of_the_service_for_any_program_name(
    host: Host, mounts: PrivateMounts, installed: Installation, alice: Person, phone: Phone, name: str
) -> None:
    """Without a journal, `softtoken-admin log` reads the file that such a daemon writes."""
    host.use_stack(installed.line())
    host.around = ["/bin/bash", "-c", 'exec -a "$0" "$@"', name]
    assert not host.log_in(alice, wrong_code(phone)).entered_as
    ours = host.log_line(alice, "denied", "mismatch")
    assert mounts.log.ours() == [ours]
    (line,) = [line for line in mounts.log.lines if "result=" in line]
    assert re.fullmatch(rf"<85>{host.service}\[\d+\]: {re.escape(ours)}", line)
