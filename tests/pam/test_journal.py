"""Check the module's lines in systemd's journal: each once, with their parts as fields, and nothing injected."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.admin.log_view.log_lines import read_message
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.journal import DAEMON, Journal, OwnJournal
from tests.support.pam_scene import Pam
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until

AUTHPRIV = "10"
OURS = "pam_softtoken(softtoken-test:auth): "


@pytest.fixture
def journal(outside: Path) -> Iterator[Journal]:
    """The journal as the system log."""
    if not DAEMON.exists():
        pytest.skip("needs the systemd package, for its journal")
    if not PrivateMounts.possible():
        pytest.skip("this container does not allow a mount namespace")
    with OwnJournal(outside / "journal") as journal:
        yield journal


def text_of(entry: dict[str, object]) -> str:
    """Return an entry's message. With a control character, it is an array of bytes."""
    message = entry["MESSAGE"]
    return bytes(message).decode() if isinstance(message, list) else str(message)


def outcomes(journal: Journal) -> list[dict[str, object]]:
    """Wait for the outcomes in the journal, and return them."""
    found: list[dict[str, object]] = []

    def look() -> bool:
        found[:] = [each for each in journal.entries() if "result=" in text_of(each)]
        return bool(found)

    wait_until(look, "an outcome in the journal")
    return found


def test_journal__has_each_outcome_once_with_its_fields(
    journal: Journal, pam: Pam, alice: Person, phone: Phone
) -> None:
    code = phone.totp()
    for result in (PAM_SUCCESS, PAM_AUTH_ERR):
        assert journal.log_in(pam.service(), alice.name, code, options=("--item=rhost=192.0.2.7",)) == result
    accepted, denied = outcomes(journal)
    assert denied["MESSAGE"] == (f"{OURS}user={alice.name} rhost=192.0.2.7 token=phone result=denied reason=replayed")
    fields = {name: value for name, value in denied.items() if name.startswith("SOFTTOKEN_")}
    assert fields == {
        "SOFTTOKEN_SERVICE": "softtoken-test",
        "SOFTTOKEN_USER": alice.name,
        "SOFTTOKEN_RHOST": "192.0.2.7",
        "SOFTTOKEN_TOKEN": "phone",
        "SOFTTOKEN_RESULT": "denied",
        "SOFTTOKEN_REASON": "replayed",
    }
    assert (denied["SYSLOG_FACILITY"], denied["PRIORITY"], denied["SYSLOG_IDENTIFIER"]) == (AUTHPRIV, "5", "client")
    assert denied["_TRANSPORT"] == "journal"
    assert accepted["SOFTTOKEN_RESULT"] == accepted["SOFTTOKEN_REASON"] == "accepted"
    (found,) = journal.entries(f"SOFTTOKEN_USER={alice.name}", "SOFTTOKEN_RESULT=accepted")
    assert found["MESSAGE"] == accepted["MESSAGE"]


def test_journal__has_the_detail_as_a_field(journal: Journal, pam: Pam, alice: Person, phone: Phone) -> None:
    (alice.store / "tokens").chmod(0o644)
    assert journal.log_in(pam.service(), alice.name, "000000") == PAM_AUTH_ERR
    (denied,) = outcomes(journal)
    assert denied["SOFTTOKEN_DETAIL"] == (
        f"{alice.store}/tokens: is open to others (mode 0644); as root: softtoken-admin mend {alice.name}"
    )
    assert denied["PRIORITY"] == "1"


@pytest.mark.parametrize(
    "rhost",
    ["a\nSOFTTOKEN_RESULT=accepted", "a\nSOFTTOKEN_USER=root\n\n", "a result=accepted reason=accepted", 'a" detail="x'],
)
@pytest.mark.claim("Only root can write into the journal what `softtoken-admin log` takes for a line of the module.")
def test_journal__nothing_from_outside_becomes_a_field(
    journal: Journal, pam: Pam, alice: Person, phone: Phone, rhost: str
) -> None:
    assert journal.log_in(pam.service(), alice.name, "nonsense", options=(f"--item=rhost={rhost}",)) == PAM_AUTH_ERR
    (denied,) = outcomes(journal)
    assert denied["SOFTTOKEN_RESULT"] == "denied"
    assert denied["SOFTTOKEN_USER"] == alice.name
    assert str(denied["SOFTTOKEN_RHOST"]).startswith("a\\x")
    assert "SOFTTOKEN_DETAIL" not in denied


@pytest.mark.parametrize("odd", ['"', "\\", "\x01", "\x1b[31m", "ö"])
def test_journal__lines_of_the_bridge_are_escaped(
    journal: Journal, pam: Pam, alice: Person, outside: Path, odd: str
) -> None:
    """The name of a file can have any character, and so can an error text in another language."""
    service = pam.with_backend(f"{outside}/no{odd}SOFTTOKEN_RESULT=accepted")
    assert journal.log_in(service, alice.name) == PAM_AUTH_ERR
    (denied,) = outcomes(journal)
    assert denied["SOFTTOKEN_RESULT"] == "denied"
    assert r"no\x" in str(denied["SOFTTOKEN_DETAIL"])
    message = read_message(str(denied["MESSAGE"]))
    assert message is not None
    assert message[1]["detail"] == denied["SOFTTOKEN_DETAIL"]


def test_journal__names_the_phase(journal: Journal, pam: Pam, alice: Person) -> None:
    """A mark makes the account phase act: it refuses, because the mark is not this user's."""
    ours = pam.line(f"backend={pam.installed.backend}")
    service = pam.stack("account" + ours.removeprefix("auth"))
    mark = f"--variable=PAM_SOFTTOKEN_ENROL={alice.name}"
    journal.log_in(service, alice.name, options=(mark, "--no-authenticate", "--account"))
    (denied,) = outcomes(journal)
    message = read_message(str(denied["MESSAGE"]))
    assert message is not None
    assert message[1]["reason"] == "enrolment"
    assert str(denied["MESSAGE"]).startswith("pam_softtoken(softtoken-test:account): ")


def test_journal__lines_of_the_bridge_have_fields(journal: Journal, pam: Pam, alice: Person, outside: Path) -> None:
    assert journal.log_in(pam.with_backend(outside / "missing"), alice.name) == PAM_AUTH_ERR
    (denied,) = outcomes(journal)
    assert (denied["SOFTTOKEN_RESULT"], denied["SOFTTOKEN_REASON"]) == ("denied", "backend")
    assert "backend missing" in str(denied["SOFTTOKEN_DETAIL"])


def test_journal__unavailable_one_leaves_the_line_to_syslog(
    outside: Path, pam: Pam, alice: Person, phone: Phone
) -> None:
    """The link says journal, but the socket for lines with fields does not exist."""
    if not PrivateMounts.possible():
        pytest.skip("this container does not allow a mount namespace")
    if not DAEMON.exists():
        pytest.skip("needs the systemd package, for its journal")
    with OwnJournal(outside / "journal") as journal:
        assert journal.run("rm", "/run/systemd/journal/socket").returncode == 0
        assert journal.log_in(pam.service(), alice.name, phone.totp()) == PAM_SUCCESS
        (accepted,) = outcomes(journal)
    assert accepted["_TRANSPORT"] == "syslog"
    assert accepted["MESSAGE"] == f"{OURS}user={alice.name} token=phone result=accepted reason=accepted"


def test_journal__is_not_used_if_another_daemon_is_the_system_log(
    outside: Path, pam: Pam, alice: Person, phone: Phone
) -> None:
    if not DAEMON.exists():
        pytest.skip("needs the systemd package, for its journal")
    if not PrivateMounts.possible():
        pytest.skip("this container does not allow a mount namespace")
    path = outside / "other-daemon"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(path))
        path.chmod(0o666)
        daemon.settimeout(60)
        with OwnJournal(outside / "journal", system_log=str(path)) as journal:
            assert journal.log_in(pam.service(), alice.name, phone.totp()) == PAM_SUCCESS
            while "pam_softtoken(" not in (line := daemon.recv(65536).decode()):
                pass  # libpam logs a line, too
            assert not [each for each in journal.entries() if "pam_softtoken" in str(each["MESSAGE"])]
    assert f"{OURS}user={alice.name} token=phone result=accepted" in line
