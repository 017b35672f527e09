"""Run `softtoken-admin log`: the log as a table, from the journal and from files, without forged lines."""

from __future__ import annotations

import gzip
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken import log
from pam_softtoken.admin.log_view.log_lines import SUPPRESSION
from pam_softtoken.admin.log_view.log_sources import MAX_LINE_BYTES
from tests.support.account import Person, Phone
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.enroller import ENVIRONMENT
from tests.support.installation import Installation
from tests.support.journal import DAEMON, Journal, OwnJournal
from tests.support.leak import keep
from tests.support.pam_scene import Pam
from tests.support.private_mounts import PrivateMounts

DENIED = "pam_softtoken(sshd:auth): user=alice rhost=192.0.2.7 token=phone result=denied reason=replayed"
ACCEPTED = "pam_softtoken(sudo:auth): user=bob uid=1001 token=phone result=accepted reason=accepted"
DEED = "softtoken-admin: action=code-for user=alice until=2026-11-23T10:00:00Z by=carol loginuid=1000"
# 2005-03-18 01:58:29 UTC is 1111111109: RFC 6238, appendix B.
ISO, AT = "2005-03-18T01:58:29.123456+00:00", 1111111109
EVER = ("--since", "2000-01-01")
UTC = {**ENVIRONMENT, "TZ": "UTC0"}


@pytest.fixture
def admin(installed: Installation) -> Admin:
    """The installed `softtoken-admin`."""
    return Admin(installed)


class File:
    """A log file.

    Args:
        admin: the program that reads it.
        path: its path.
    """

    def __init__(self, admin: Admin, path: Path) -> None:
        self._admin = admin
        self._path = path

    def read(self, *lines: str, options: tuple[str, ...] = EVER, changed: int | None = None) -> list[dict[str, object]]:
        """Return what the program makes of some lines."""
        self._path.write_text("".join(f"{line}\n" for line in lines))
        if changed is not None:
            os.utime(self._path, (changed, changed))
        done = self._admin.run("log", "--json", "--file", self._path, *options, environment=UTC)
        entries: list[dict[str, object]] = json.loads(succeeded(done))["entries"]
        return entries


@pytest.fixture
def file(admin: Admin, outside: Path) -> File:
    """An empty log file."""
    return File(admin, outside / "auth.log")


# -- files


def test_log__of_a_file_is_a_table(admin: Admin, outside: Path) -> None:
    path = outside / "auth.log"
    path.write_text(
        f"{ISO} host sshd[12]: {DENIED}\n{ISO} host sshd[12]: Connection closed\n{ISO} host sudo: {ACCEPTED}\n"
        f"{ISO} host softtoken-admin[7]: {DEED}\n"
    )
    table = succeeded(admin.run("log", *EVER, "--file", path, environment=UTC)).splitlines()
    assert [re.split(r" {2,}", line) for line in table] == [
        ["time", "service", "user", "uid", "rhost", "token", "result", "reason", "detail"],
        ["2005-03-18 01:58:29", "sshd", "alice", "-", "192.0.2.7", "phone", "denied", "replayed"],
        ["2005-03-18 01:58:29", "sudo", "bob", "1001", "-", "phone", "accepted", "accepted"],
        ["2005-03-18 01:58:29", "softtoken-admin", "alice", *3 * ["-"], "code-for", "-", DEED.partition("alice ")[2]],
    ]


def test_log__json_has_the_same_facts(file: File) -> None:
    (entry,) = file.read(
        f'{ISO} host sshd[1]: pam_softtoken(sshd:auth): user=a result=denied reason=throttled detail="4 s left"'
    )
    assert entry == {
        "time": "2005-03-18T01:58:29Z",
        "service": "sshd",
        "user": "a",
        "uid": None,
        "rhost": None,
        "token": None,
        "result": "denied",
        "reason": "throttled",
        "detail": "4 s left",
        "trial": False,
        "written_by_uid": None,
    }


def test_log__shows_the_command_that_was_signed_or_refused(admin: Admin, file: File, outside: Path) -> None:
    signed = (
        "pam_softtoken(sudo:sign): user=alice uid=1000 token=laptop result=accepted reason=signed "
        'detail="/usr/bin/systemctl restart nginx"'
    )
    refused_one = 'pam_softtoken(sudo:sign): user=alice uid=1000 result=denied reason=mismatch detail="/usr/bin/id -u"'
    lines = [f"{ISO} host sudo[7]: {each}" for each in (signed, refused_one, signed.replace("alice", "bob"))]
    first, second = file.read(*lines, options=(*EVER, "--user=alice"))
    assert (first["token"], first["result"], first["reason"]) == ("laptop", "accepted", "signed")
    assert first["detail"] == "/usr/bin/systemctl restart nginx"
    assert (second["result"], second["detail"]) == ("denied", "/usr/bin/id -u")
    table = succeeded(admin.run("log", *EVER, "--user=bob", "--file", outside / "auth.log", environment=UTC))
    assert table.splitlines()[1].endswith("laptop  accepted  signed  /usr/bin/systemctl restart nginx")


def test_log__a_command_cannot_add_words_to_its_line(file: File) -> None:
    """The command is chosen by the caller of sudo."""
    sink: list[str] = []
    record = log.Log(lambda _, text: sink.append(text))
    record.user, record.uid = "alice", "1000"
    command = 'sh -c x" result=accepted reason=signed\n\x1b[31m\\'
    record.outcome(log.NOTICE, "denied", "mismatch", detail=command)
    (entry,) = file.read(f"{ISO} host sudo[7]: {log.head('sudo', 'sign')}{sink[0]}")
    assert (entry["result"], entry["reason"]) == ("denied", "mismatch")
    assert str(entry["detail"]).startswith("sh -c x\\x22 result=accepted reason=signed \\x1b[31m")


@pytest.mark.parametrize("stamp", [ISO, "2005-03-18T01:58:29Z", "2005-03-18T03:58:29+02:00"])
def test_log__time_stamps_of_iso_8601_are_read(file: File, stamp: str) -> None:
    assert [entry["time"] for entry in file.read(f"{stamp} host sshd[1]: {DENIED}")] == ["2005-03-18T01:58:29Z"]


@pytest.mark.parametrize("user", [(), ("--user=bob",)], ids=["of anybody", "of one user"])
def test_log__lines_without_a_year_are_counted_at_the_end_of_their_file(
    file: File, outside: Path, user: tuple[str, ...]
) -> None:
    lines = [f"Mar 18 01:58:29 host sshd[1]: {DENIED}", f"{ISO} host sudo: {ACCEPTED}"]
    forged = f"Mar 18 01:58:29 host sshd[1]: Invalid user {DENIED} from 192.0.2.1"
    kept, notice = file.read(lines[0], forged, lines[0], lines[1], options=(*EVER, *user), changed=AT + 60)
    assert kept["user"] == "bob"
    assert (notice["time"], notice["service"]) == ("2005-03-18T01:59:29Z", str(outside / "auth.log"))
    assert notice["result"] == "suppressed"
    assert str(notice["detail"]).startswith("2 without a year")
    assert file.read(lines[0], options=("--since=2005-03-19",), changed=AT + 60) == []


@pytest.mark.parametrize(
    "line",
    [
        f"{ISO} host sshd[1]: Invalid user {DENIED} from 192.0.2.1",
        f"{ISO} host sshd[1]: Invalid user x {ISO} host sshd[1]: {DENIED}",
        f"{ISO} host sshd[1]:{DENIED}",
        f"{ISO} host sshd[1]:  {DENIED}",
        f"{ISO} host evil sshd[1]: {DENIED}",
        f"{ISO} host sshd[1]: {DENIED} result=accepted",
        f"{ISO} host sshd[1]: {DENIED} user=root",
        f"{ISO} host sshd[1]: {DENIED.replace('replayed', 'invented')}",
        f"{ISO} host sshd[1]: {DENIED.replace('denied', 'splendid')}",
        f"{ISO} host sshd[1]: {DENIED.replace('sshd:', 'ss hd:')}",
        f"{ISO} host sshd[1]: {DENIED.replace('alice', 'al ice')}",
        f"{ISO} host sshd[1]: {DENIED.replace('alice', chr(27) + '[31m')}",
        f"{ISO} host sshd[1]: {DENIED.replace('pam_soft', 'xpam_soft')}",
        f"{ISO} host sshd[1]: {DEED}",
        f"2005-02-30T01:58:29Z host sshd[1]: {DENIED}",
        f"{ISO} host sshd[1]: " + "x" * MAX_LINE_BYTES,
        "x" * MAX_LINE_BYTES + f"{ISO} host sshd[1]: {DENIED}",
        "x" * (MAX_LINE_BYTES * 2) + f"{ISO} host sshd[1]: {DENIED}",
        f'{ISO} host sshd[1]: {DENIED} detail="{chr(27)}[31m"',
        f'{ISO} host sshd[1]: {DENIED} detail="a" detail="b"',
        DENIED,
        "",
        "\0",
    ],
)
@pytest.mark.claim("Only root can write into the journal what `softtoken-admin log` takes for a line of the module.")
def test_log__ignores_lines_of_other_programs(file: File, line: str) -> None:
    kept = f"{ISO} host sshd[1]: {ACCEPTED}"
    assert [entry["user"] for entry in file.read(line, kept)] == ["bob"]


def test_log__older_parts_are_read_too_oldest_first(admin: Admin, outside: Path) -> None:
    logs = outside / "log"
    logs.mkdir()
    with gzip.open(logs / "auth.log.2.gz", "wt") as text:
        text.write(f"2005-03-16T01:00:00Z host sshd[1]: {DENIED}\n")
    (logs / "auth.log.1").write_text(f"2005-03-17T01:00:00Z host sshd[1]: {ACCEPTED}\n")
    (logs / "auth.log").write_text(f"2005-03-18T01:00:00Z host sshd[1]: {DENIED}\n")
    hiding = 'mount -t tmpfs tmpfs /run; mount --bind "$1" /var/log; shift; exec "$@"'  # so that there is no journal
    program = admin.after("unshare", "--mount", "--propagation", "private", "sh", "-euc", hiding, "sh", logs)
    done = program.run("log", "--json", *EVER, environment=UTC)
    times = [entry["time"] for entry in json.loads(succeeded(done))["entries"]]
    assert times == [f"2005-03-{day}T01:00:00Z" for day in (16, 17, 18)]
    # Rotated files that ended before are not even opened.
    os.utime(logs / "auth.log.2.gz", (AT, AT))
    (logs / "auth.log.2.gz").write_bytes(b"no gzip")
    os.utime(logs / "auth.log.2.gz", (AT, AT))
    assert succeeded(program.run("log", "--since", "1d", environment=UTC)) == ""
    error, _ = refused(program.run("log", *EVER, environment=UTC))
    assert "auth.log.2.gz" in error
    for path in logs.iterdir():
        path.unlink()
    error, hint = refused(program.run("log"))
    assert "no journal" in error
    assert "--file" in hint


def test_log__lines_of_the_account_phase_are_read(file: File) -> None:
    line = DENIED.replace(":auth)", ":account)").replace("replayed", "enrolment")
    assert [entry["reason"] for entry in file.read(f"{ISO} host sshd[1]: {line}")] == ["enrolment"]
    assert file.read(f"{ISO} host sshd[1]: {line.replace(':account)', ':session)')}") == []


def test_log__trials_are_shown_only_with_all(admin: Admin, file: File, outside: Path) -> None:
    trial = f"{ISO} host softtoken-admin[1]: pam_softtoken(softtoken-trial:auth): {{}}result=denied reason=mismatch{{}}"
    lines = (trial.format("", " trial=yes"), trial.format("user=a ", ""))
    assert [entry["trial"] for entry in file.read(*lines)] == [False]
    assert [entry["trial"] for entry in file.read(*lines, options=(*EVER, "--all"))] == [True, False]
    said = admin.run("log", *EVER, "--file", outside / "auth.log").stderr
    assert "1 line is left out that comes from a trial" in said
    assert "any local user can have added one" in said


def test_log__several_files_are_one_log(admin: Admin, outside: Path) -> None:
    for name, minutes in ("a", (1, 4)), ("b", (2, 3)):
        (outside / name).write_text("".join(f"2005-03-18T01:0{each}:00Z host sshd: {DENIED}\n" for each in minutes))
    done = admin.run("log", "--json", *EVER, "--file", outside / "a", "--file", outside / "b", environment=UTC)
    times = [entry["time"][14:16] for entry in json.loads(succeeded(done))["entries"]]
    assert times == ["01", "02", "03", "04"]


# -- what is wanted


def test_log__of_one_user_shows_no_other_user(file: File) -> None:
    lines = [f"{ISO} host sshd[1]: {text}" for text in (DENIED, ACCEPTED)]
    assert [entry["user"] for entry in file.read(*lines, options=(*EVER, "--user=alice"))] == ["alice"]
    assert file.read(*lines, options=(*EVER, "--user=ali")) == []
    odd = DENIED.replace("alice", "w\\xc3\\xb6rld")
    assert len(file.read(f"{ISO} host sshd[1]: {odd}", options=(*EVER, "--user=wörld"))) == 1


@pytest.mark.parametrize(
    ("since", "hours_ago"),
    [("1h", 1), ("90m", 1.5), ("2d", 48), ("1w", 168), ("3600s", 1)],
)
def test_log__since_shows_the_lines_of_that_time(file: File, since: str, hours_ago: float) -> None:
    def stamp(hours: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - hours * 3600))

    lines = [f"{stamp(hours_ago + more)} host sshd[1]: {DENIED}" for more in (0.5, -0.5)]
    assert [entry["time"] for entry in file.read(*lines, options=("--since", since))] == [lines[1][:20]]


@pytest.mark.parametrize(
    ("since", "count"),
    [
        ("2005-03-18", 1),
        ("2005-03-19", 0),
        ("2005-03-18 01:58", 1),
        ("2005-03-18 01:58:29", 1),
        ("2005-03-18T01:58:30", 0),
        ("2005-03-18 01:59", 0),
        ("today", 0),
        ("yesterday", 0),
    ],
)
def test_log__since_a_date_means_local_time(file: File, since: str, count: int) -> None:
    assert len(file.read(f"{ISO} host sshd[1]: {DENIED}", options=("--since", since))) == count


@pytest.mark.parametrize("since", ["", "soon", "1y", "2005-13-01", "h", "-1h", "2005-03-18 25:00"])
def test_log__since_anything_else_is_refused(admin: Admin, since: str) -> None:
    error, hint = refused(admin.run("log", f"--since={since}"), 2)
    assert "is not a time" in error
    assert "--since today" in hint


def test_log__needs_root(admin: Admin, alice: Person) -> None:
    assert refused(admin.run("log", person=alice)) == ("only root can do that", "sudo softtoken-admin log")


def test_log__says_when_there_is_nothing(admin: Admin, outside: Path) -> None:
    (outside / "empty").write_text("")
    done = admin.run("log", "--file", outside / "empty")
    assert succeeded(done) == ""
    assert done.stderr == "There is nothing in the log about that.\n"
    error, _ = refused(admin.run("log", "--file", outside / "missing"))
    assert "No such file" in error


@pytest.mark.parametrize("columns", [80, 40])
def test_log__fits_a_terminal(admin: Admin, outside: Path, columns: int) -> None:
    (outside / "auth.log").write_text(f"{ISO} host sshd[1]: {DENIED}\n{ISO} host softtoken-admin[1]: {DEED}\n")
    with admin.start("log", *EVER, "--file", outside / "auth.log", columns=columns) as dialogue:
        assert dialogue.finish() == 0
        shown = dialogue.transcript.partition("A log file")[0]
    assert all(len(line) <= columns for line in shown.splitlines()), shown
    assert "192.0.2.7" in shown
    assert "replayed" in shown


# -- the journal


@pytest.fixture
def journal(outside: Path) -> Iterator[Journal]:
    """The journal as the system log."""
    if not DAEMON.exists():
        pytest.skip("needs the systemd package, for its journal")
    if not PrivateMounts.possible():
        pytest.skip("this container does not allow a mount namespace")
    with OwnJournal(outside / "journal") as journal:
        yield journal


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's token. Its codes last longer than any test."""
    return alice.enrol(installed, "--period=300", "--recovery-codes=0")


def test_log__of_the_journal_has_logins_and_deeds(
    admin: Admin, journal: Journal, pam: Pam, alice: Person, phone: Phone
) -> None:
    code = phone.totp()
    service = pam.service()
    assert journal.log_in(service, alice.name, code) == PAM_SUCCESS
    assert journal.log_in(service, alice.name, code, options=("--item=rhost=192.0.2.7",)) == PAM_AUTH_ERR
    inside = admin.after(*journal.inside)
    keep(succeeded(inside.run("code-for", alice.name, "--for=1h")).strip())
    journal.entries()  # waits until all is written
    entries = json.loads(succeeded(inside.run("log", "--user", alice.name, "--json")))["entries"]
    said = [(entry["service"], entry["rhost"], entry["result"], entry["reason"]) for entry in entries]
    assert said == [
        ("softtoken-test", None, "accepted", "accepted"),
        ("softtoken-test", "192.0.2.7", "denied", "replayed"),
        ("softtoken-admin", None, "code-for", None),
    ]
    assert {entry["written_by_uid"] for entry in entries} == {0}


SEND = f"""
import array, os, socket, struct
entry = b"MESSAGE=" + {DENIED!r}.encode() + (
    b"\\nSYSLOG_FACILITY=10\\nSYSLOG_IDENTIFIER=sshd\\nMESSAGE_ID={SUPPRESSION}\\n_UID=0\\n_TRANSPORT=driver\\n"
)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("/run/systemd/journal/socket")
claim = []
{{claims}}
s.{{send}}
"""
AS_ROOT = "claim = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack('3i', os.getpid(), 0, 0))]"


@pytest.mark.claim("Only root can write into the journal what `softtoken-admin log` takes for a line of the module.")
def test_log__of_the_journal_shows_only_lines_that_root_wrote(admin: Admin, journal: Journal, alice: Person) -> None:
    """Any user can send the journal any line, under any name, with any field that the journal does not set itself."""
    as_alice = ("setpriv", f"--reuid={alice.uid}", f"--regid={alice.gid}", "--clear-groups")
    for command in (
        ("/usr/bin/python3", "-c", SEND.format(claims="", send="sendmsg([entry])")),
        # The kernel lets no user claim to be root. In a separate user namespace, alice is root.
        ("/usr/bin/python3", "-c", SEND.format(claims=AS_ROOT, send="sendmsg([entry], claim)")),
        ("unshare", "--user", "--map-root-user", "/usr/bin/python3", "-c",
         SEND.format(claims=AS_ROOT, send="sendmsg([entry], claim)")),
        ("logger", "-t", "sshd", "-p", "authpriv.notice", DENIED),
        ("logger", "-t", "softtoken-admin", "-p", "authpriv.notice", DEED),
        ("systemd-cat", "--identifier=sshd", "echo", DENIED),
    ):  # fmt: skip
        journal.run(*as_alice, *command)
    journal.entries()
    shown = admin.after(*journal.inside).run("log")
    assert succeeded(shown) == ""
    assert re.search(r"[3-6] lines are left out that programs without root wrote", shown.stderr), shown.stderr
    entries = json.loads(succeeded(admin.after(*journal.inside).run("log", "--all", "--json")))["entries"]
    assert {entry["written_by_uid"] for entry in entries} == {alice.uid}
    assert {entry["service"] for entry in entries} == {"sshd", "softtoken-admin"}
    assert not any(entry["service"] == "systemd-journald" for entry in entries)
