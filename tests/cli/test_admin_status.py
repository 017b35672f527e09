"""Run `softtoken-admin status`: a line for each user who can log in, even with hostile home directories."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pam_softtoken.account import ram_record
from tests.support.account import Person, Phone
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import Enroller
from tests.support.hanging_disk import HangingDisk
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.pam_scene import wrong_code

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d"
FIRST_UID = 70000
MANY = 10_000
_HOST = """
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/shells" /etc/shells
mount --bind "$1/login.defs" /etc/login.defs
mount --bind "$1/shadow" /etc/shadow
shift
exec "$@"
"""


@pytest.fixture
def admin(installed: Installation) -> Admin:
    """The installed `softtoken-admin`."""
    return Admin(installed)


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's token and three recovery codes."""
    Path("/var/lib/softtoken/enrolled", str(alice.uid)).unlink(missing_ok=True)  # of another test
    return alice.enrol(installed, "--period=300", "--recovery-codes=3")


class Host:
    """A host with its own users, for the program that is run inside. Its users are only lines of a file, and homes.

    Args:
        directory: the directory for its files.
        template: a store that its users can have copies of.
    """

    def __init__(self, directory: Path, template: Path) -> None:
        self._directory = directory
        self._template = template
        self._lines = ["root:x:0:0:root:/root:/bin/sh"]
        self._shadow = ["root:*:19000:0:99999:7:::"]
        self.homes = directory / "homes"
        self.homes.mkdir()
        self.homes.chmod(0o755)
        directory.chmod(0o755)

    def add(
        self,
        name: str,
        *,
        uid: int | None = None,
        shell: str = "/bin/bash",
        password: str = "!",
        enrolled: bool = False,
    ) -> Path:
        """Add a user, and return their home."""
        uid = FIRST_UID + len(self._lines) if uid is None else uid
        home = self.homes / f"{uid}-{len(self._lines)}"
        home.mkdir(mode=0o755)
        self._lines.append(f"{name}:x:{uid}:{uid}::{home}:{shell}")
        self._shadow.append(f"{name}:{password}:19000:0:99999:7:::")
        if enrolled:
            store = home / ".softtoken"
            store.mkdir(mode=0o700)
            for file in ("tokens", "state"):
                (store / file).write_bytes((self._template / file).read_bytes())
                (store / file).chmod(0o600)
                os.chown(store / file, uid, uid)
            os.chown(store, uid, uid)
        os.chown(home, uid, uid)
        return home

    def inside(self, admin: Enroller, *around: str) -> Enroller:
        """The program, run on this host."""
        files = {
            "passwd": "\n".join(self._lines) + "\n",
            "shadow": "\n".join(self._shadow) + "\n",
            "shells": "# shells\n/bin/sh\n/bin/bash\n/usr/sbin/nologin\n",
            "login.defs": "UID_MIN  500\n",
        }
        for name, text in files.items():
            (self._directory / name).write_text(text)
        unshare = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", _HOST, "sh", str(self._directory))
        return admin.after(*unshare, *around)


@pytest.fixture
def host(outside: Path, installed: Installation, alice: Person) -> Host:
    """A host where some users have copies of one store."""
    alice.enrol(installed, "--recovery-codes=1")
    template = outside / "template"
    shutil.copytree(alice.store, template)
    return Host(outside, template)


def lines_by_user(done_stdout: str) -> dict[str, str]:
    """Split the table into lines by user."""
    table = done_stdout.partition("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line for line in table}


# -- one user


def test_status__has_one_line_for_each_user(admin: Admin, alice: Person, phone: Phone, service: Service) -> None:
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    header, line, *rest = succeeded(admin.run("status", alice.name)).splitlines()
    assert re.split(r" {2,}", header) == ["user", "status", "tokens", "last used", "recovery", "remarks"]
    assert re.fullmatch(rf"{alice.name} +enrolled +1 +{TIME} +2/3", line)
    assert rest == ["", "1 user: 1 enrolled, 0 not-enrolled, 0 unusable"]


def test_status__names_users_that_only_nullok_lets_in(admin: Admin, alice: Person) -> None:
    Path("/var/lib/softtoken/enrolled", str(alice.uid)).unlink(missing_ok=True)
    shown = succeeded(admin.run("status", alice.name))
    assert re.search(rf"^{alice.name} +not-enrolled", shown, re.MULTILINE)
    assert "nullok" not in shown
    record = json.loads(succeeded(admin.run("status", alice.name, "--json")))
    assert record["only_in_by_nullok"] == [alice.name]


def test_status__user_with_a_former_token_is_not_listed_under_nullok(admin: Admin, alice: Person, phone: Phone) -> None:
    assert succeeded(admin.run("revoke", alice.name, "--yes")) == ""
    shown = succeeded(admin.run("status", alice.name))
    assert "was enrolled before: denied, nullok or not" in shown
    assert json.loads(succeeded(admin.run("status", alice.name, "--json")))["only_in_by_nullok"] == []


def test_status__shows_waits_and_issued_codes(admin: Admin, alice: Person, phone: Phone, service: Service) -> None:
    wrong = wrong_code(phone)
    for _ in range(12):  # during a wait nothing is counted
        assert service.log_in(alice, wrong).result == PAM_AUTH_ERR
    elsewhere = ("--item=rhost=192.0.2.7",)
    record: dict[str, Any] = {"waiting": []}
    before = int(time.time())
    while len(record["waiting"]) < 2:  # the first waits are over soon; they double
        assert service.log_in(alice, wrong).result == PAM_AUTH_ERR
        assert service.log_in(alice, wrong, options=elsewhere).result == PAM_AUTH_ERR
        (record,) = json.loads(succeeded(admin.run("status", alice.name, "--json")))["users"]
    assert {each["source"] for each in record["waiting"]} == {"other local users", "other hosts"}
    for each in record["waiting"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", each["until"])
        assert each["wrong_answers"] >= 5
        assert each["until"] >= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before))
    keep(succeeded(admin.run("code-for", alice.name, "--for=1h")).strip())
    assert "issued code until" in succeeded(admin.run("status", alice.name))
    assert succeeded(admin.run("unlock", alice.name)) == ""
    (record,) = json.loads(succeeded(admin.run("status", alice.name, "--json")))["users"]
    assert record["waiting"] == []


def test_status__of_a_damaged_state_says_so(admin: Admin, alice: Person, phone: Phone) -> None:
    (alice.store / "state").write_bytes(b"x" * 8192)
    (record,) = json.loads(succeeded(admin.run("status", alice.name, "--json")))["users"]
    assert (record["status"], record["state"]) == ("enrolled", "damaged")
    assert "state: is damaged" in record["problem"]
    assert re.search(r" \?/3 .*state: is damaged", succeeded(admin.run("status", alice.name)))


def test_status__shows_no_key_and_no_hash(admin: Admin, alice: Person, phone: Phone) -> None:
    document = json.loads((alice.store / "tokens").read_bytes())
    secrets = [token["key"] for token in document["tokens"]] + document["recovery"]["hashes"]
    for options in ((), ("--json",)):
        done = admin.run("status", alice.name, *options)
        assert [secret for secret in secrets if secret in done.stdout + done.stderr] == []


def test_status__honours_the_store(admin: Admin, installed: Installation, alice: Person, outside: Path) -> None:
    template = f"{outside}/%u"
    alice.enrol(installed, "--store", template, "--recovery-codes=0")
    assert re.search(rf"^{alice.name} +not-enrolled", succeeded(admin.run("status", alice.name)), re.MULTILINE)
    shown = succeeded(admin.run("status", alice.name, "--store", template))
    assert re.search(rf"^{alice.name} +enrolled +1", shown, re.MULTILINE)
    _, hint = refused(admin.run("status", "--store", "nowhere"), 2)
    assert "--store" in hint


def test_status__needs_root_and_an_existing_user(admin: Admin, alice: Person) -> None:
    assert refused(admin.run("status", person=alice)) == ("only root can do that", "sudo softtoken-admin status")
    error, _ = refused(admin.run("status", "nobody-of-that-name-here"))
    assert "no such user" in error


# -- who can log in


def test_status__lists_exactly_the_users_that_can_log_in(admin: Admin, host: Host) -> None:
    host.add("person", uid=500)
    host.add("daemon1", uid=499)
    host.add("daemon2", uid=498, password="$y$j9T$abc$def")
    host.add("empty", shell="")
    host.add("unlisted", shell="/usr/bin/git-shell")
    host.add("nologin", shell="/usr/sbin/nologin")
    host.add("false", shell="/bin/false")
    record = json.loads(succeeded(host.inside(admin).run("status", "--json")))
    # The host also lists users who have logged in with a code before; none of them belongs to this one.
    listed = {user["user"] for user in record["users"]}
    assert listed == {"root", "person", "daemon2", "empty"}
    record = json.loads(succeeded(host.inside(admin).run("status", "--all", "--json")))
    assert listed | {"daemon1", "unlisted", "nologin", "false"} == {user["user"] for user in record["users"]}


# -- hostile homes


def spoil(store: Path, how: str) -> None:
    """Damage a user's files."""
    tokens, state, home = store / "tokens", store / "state", store.parent
    if how in ("fifo", "fifostate"):
        file = tokens if how == "fifo" else state
        file.unlink()
        os.mkfifo(file)
    elif how == "link":
        tokens.unlink()
        tokens.symlink_to("/etc/shadow")
    elif how in ("huge", "hugestate"):
        os.truncate(tokens if how == "huge" else state, 1 << 40)
    elif how == "open":
        tokens.chmod(0o666)
    elif how == "nonsense":
        tokens.write_bytes(b"\xff\0{")
    elif how == "linkedstore":
        store.rename(store.with_name("x"))
        store.symlink_to("x")
    elif how == "writable":
        home.chmod(0o777)
    else:
        shutil.rmtree(home)
        if how == "filehome":
            home.write_text("")


def test_status__hostile_home_does_not_hide_other_users(admin: Admin, host: Host, outside: Path) -> None:
    host.add("aaa", enrolled=True)
    hostile = (
        *("fifo", "link", "huge", "open", "nonsense", "linkedstore", "hugestate", "fifostate"),
        *("gonehome", "filehome", "writable"),
    )
    for name in hostile:
        spoil(host.add(name, enrolled=True) / ".softtoken", name)
    host.add("zzz", enrolled=True)
    done = host.inside(admin).run("status")
    lines = lines_by_user(succeeded(done))
    assert list(lines) == ["root", "aaa", *hostile, "zzz"]
    for name in ("aaa", "zzz"):
        assert re.search(r"enrolled +1 +never +0/1|enrolled +1 +never +1/1", lines[name]), lines[name]
    for name in hostile:
        assert re.search(r": \w.* ", lines[name]) or "is damaged" in lines[name], lines[name]
    assert "is not a regular file" in lines["fifo"]
    assert "is a symbolic link" in lines["link"]
    assert "root:" not in done.stdout


def test_status__does_not_wait_for_a_held_lock(admin: Admin, alice: Person, phone: Phone) -> None:
    command = ["flock", str(alice.store / "state"), "sh", "-c", "echo held; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        shown = succeeded(admin.run("status", alice.name))
        assert holder.poll() is None
        holder.communicate()
    assert re.search(rf"^{alice.name} +enrolled +1", shown, re.MULTILINE)


@pytest.mark.parametrize("unkillable", [False, True])
def test_status__hanging_disk_affects_only_the_lines_of_its_users(admin: Admin, host: Host, unkillable: bool) -> None:
    if not HangingDisk.possible():
        pytest.skip("this container does not allow a FUSE mount")
    host.add("aaa", enrolled=True)
    hanging = host.add("hanging", enrolled=True)
    host.add("zzz", enrolled=True)
    with HangingDisk(hanging, unkillable=unkillable) as disk:
        done = host.inside(admin).after(*disk.inside).run("status")
    lines = lines_by_user(succeeded(done))
    assert "does not answer" in lines["hanging"]
    for name in ("aaa", "zzz"):
        assert re.search(r"enrolled +1 ", lines[name]), lines[name]


def test_status__asks_a_hanging_disk_only_once_for_all_its_users(admin: Admin, host: Host, outside: Path) -> None:
    if not HangingDisk.possible():
        pytest.skip("this container does not allow a FUSE mount")
    disk_of_some = host.homes / "disk"
    disk_of_some.mkdir()
    homes = host.homes
    host.homes = disk_of_some
    for name in ("one", "two", "three"):
        host.add(name)
    host.homes = homes
    host.add("zzz", enrolled=True)
    with HangingDisk(disk_of_some, unkillable=False) as disk:
        lines = lines_by_user(succeeded(host.inside(admin).after(*disk.inside).run("status")))
    assert "does not answer for" in lines["one"]
    for name in ("two", "three"):
        assert f"not looked at; {disk_of_some} does not answer, see one" in lines[name]
    assert re.search(r"enrolled +1 ", lines["zzz"])


def test_status__mount_in_one_home_hides_no_other_user(admin: Admin, host: Host) -> None:
    """Otherwise the user could hide all users: a user may mount FUSE file systems of their own."""
    if not HangingDisk.possible():
        pytest.skip("this container does not allow a FUSE mount")
    hanging = host.add("hanging", enrolled=True) / ".softtoken"
    host.add("zzz", enrolled=True)
    a_disk_of_homes = ("sh", "-euc", 'mount --rbind "$0" "$0"; exec "$@"', str(host.homes))
    with HangingDisk(hanging, unkillable=False) as disk:
        done = host.inside(admin).after(*disk.inside, *a_disk_of_homes).run("status")
    lines = lines_by_user(succeeded(done))
    assert "does not answer" in lines["hanging"]
    assert re.search(r"enrolled +1 ", lines["zzz"])


# -- many


def test_status__of_ten_thousand_is_one_line_each_in_order(admin: Admin, host: Host) -> None:
    enrolled = {f"user{number:05}" for number in range(0, MANY, 50)}
    names = [f"user{number:05}" for number in range(MANY)]
    for name in names:
        host.add(name, enrolled=name in enrolled)
    lines = lines_by_user(succeeded(host.inside(admin).run("status")))
    assert list(lines) == ["root", *names]
    assert {name for name, line in lines.items() if re.search(r" enrolled ", line)} >= enrolled
    assert not any("not-enrolled" in lines[name] for name in enrolled)


def test_status__reads_each_user_once_without_a_write_a_lock_or_a_hash(admin: Admin, host: Host, outside: Path) -> None:
    homes = [host.add(f"user{number}", enrolled=True) for number in range(30)]
    before = {path: path.stat().st_mtime_ns for home in homes for path in home.rglob("*")}
    trace = outside / "trace"
    strace = ("strace", "-f", "-y", "-o", str(trace))
    succeeded(host.inside(admin, *strace).run("status"))
    calls = trace.read_text(errors="replace").splitlines()
    opened = Counter(str(home) for line in calls for home in homes if f'"{home}"' in line and "openat(" in line)
    assert set(opened.values()) == {1}
    assert len(opened) == len(homes)
    of_homes = [line for line in calls if str(host.homes) in line]
    assert not [line for line in of_homes if re.search(r"O_CREAT|O_WRONLY|O_RDWR|O_TRUNC", line)]
    assert not [line for line in calls if re.search(r" (flock|fsync|fdatasync|unlinkat|renameat2?|pwrite64)\(", line)]
    assert not [line for line in calls if "libcrypto" in line and "= -1" not in line], "what scrypt needs was loaded"
    assert before == {path: path.stat().st_mtime_ns for home in homes for path in home.rglob("*")}


# -- how it looks


@pytest.mark.parametrize("columns", [80, 40])
def test_status__fits_a_terminal(admin: Admin, host: Host, columns: int) -> None:
    host.add("alice", enrolled=True)
    host.add("a-name-of-thirty-two-characters1", enrolled=True)
    (host.add("broken", enrolled=True) / ".softtoken" / "tokens").write_text("[]")
    with host.inside(admin).start("status", columns=columns, piped=(2,)) as dialogue:
        assert dialogue.finish() == 0
        shown = dialogue.transcript
    table = shown.split("\r\n\r\n")[0].splitlines()
    words = " ".join(shown.split())
    for line in table:
        # A path cannot be broken across lines.
        assert len(line) <= columns or " " not in line.strip(), line
    assert "must be an object" in words
    assert words.count("enrolled") >= 2


def test_status__piped_is_a_line_a_user_however_long(admin: Admin, host: Host) -> None:
    (host.add("broken", enrolled=True) / ".softtoken" / "tokens").write_text("[]")
    host.add("wörld-名前", enrolled=True)
    table = succeeded(host.inside(admin).run("status")).split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table] == ["user", "root", "broken", "wörld-名前"]
    assert "must be an object" in table[2]


def test_status__progress_is_on_a_terminals_stderr_only(admin: Admin, host: Host) -> None:
    host.add("alice", enrolled=True)
    program = host.inside(admin)
    with program.start("status", "--json", piped=(1,)) as dialogue:
        assert dialogue.finish() == 0
        assert "looking" in dialogue.transcript
        assert json.loads(dialogue.file(1))["totals"]["enrolled"] >= 1
    done = program.run("status")
    assert done.stderr == ""


@pytest.fixture(autouse=True)
def no_records(alice: Person) -> Iterator[None]:
    """Check that no action of a test counts as a code used while a home was read-only."""
    yield
    assert not Path(ram_record.path_of(alice.uid, str(alice.store))).exists()
