"""Root's surveys lose nothing to an entry that vanishes while they look, as a move or a revocation makes it vanish."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.account import Person, resident_of
from tests.support.doctor import PatientHost, found_in
from tests.support.installation import Installation

STORE = "/var/lib/softtoken"
_VANISHING = """
import os, shutil, sys
sys.path.insert(0, {root!r})
from pam_softtoken.admin import program

def vanishing(really):
    def listed(path="."):
        if not isinstance(path, str) or not path.startswith(("/var/lib/softtoken", "/run/softtoken")):
            return really(path)
        victim = path + "/" + ("0" * 32 if path.endswith(".names") else "424242")
        os.makedirs(victim + "/tokens")
        names = list(really(path))
        shutil.rmtree(victim)
        with open("/run/listed", "a") as seen:  # some surveys run in processes of their own
            print(path, file=seen)
        return names if really is listdir else Scan(names)
    return listed

class Scan(list):
    def __enter__(self):
        return iter(self)
    def __exit__(self, *about):
        pass

listdir, scandir = os.listdir, os.scandir
os.listdir, os.scandir = vanishing(listdir), vanishing(scandir)
status = program.main(sys.argv[1:])
os.listdir, os.scandir = listdir, scandir
seen = open("/run/listed").read().split()
assert {expected!r} in seen, seen
sys.exit(status)
"""
"""In each of root's directories that is listed, one entry is gone at once."""
_GONE_BEFORE = """
import shutil, sys
sys.path.insert(0, {root!r})
from pam_softtoken.admin import program
from pam_softtoken.ui import consent
consent.require = lambda *about, **more: shutil.rmtree({path!r})
sys.exit(program.main(sys.argv[1:]))
"""
_BACK = """
import sys
sys.path.insert(0, {root!r})
from pam_softtoken.admin import program
from pam_softtoken.ui import consent

def meanwhile(*about, **more):
    with open("/etc/passwd", "a") as users:
        print({line!r}, file=users)

consent.require = meanwhile
sys.exit(program.main(sys.argv[1:]))
"""
_ENROLLED = """
import sys
sys.path.insert(0, {root!r})
from pam_softtoken.admin import program
from pam_softtoken.ui import consent

def meanwhile(*about, **more):
    with open({path!r}, "w") as tokens:
        tokens.write({own!r})

consent.require = meanwhile
sys.exit(program.main(sys.argv[1:]))
"""


@pytest.fixture
def passwd() -> Iterator[Path]:
    """The users of the machine, which are put back."""
    path = Path("/etc/passwd")
    text = path.read_text()
    yield path
    path.write_text(text)


@pytest.fixture(scope="module")
def owner(world: Path, installed: Installation) -> Iterator[Person]:
    """An enrolled user. Without one, a host that asks everybody for a code is not sound."""
    with resident_of(world / "homes-vanishing") as person:
        yield person


@pytest.fixture
def busy(world: Path, installed: Installation, owner: Person) -> Iterator[PatientHost]:
    """A host with a store of root's, in which one user is enrolled."""
    host = PatientHost(world / "busy", installed)
    host.set_conf(f"store = {STORE}/%U\n")
    host.enrol(owner)
    yield host
    shutil.rmtree(host.directory)


def disturbed(host: PatientHost, *words: str, listed: str = STORE) -> subprocess.CompletedProcess[str]:
    """Run the program while entries vanish. Check that this directory was listed."""
    script = _VANISHING.format(root=str(host.installed.root), expected=listed)
    done = host.run("/usr/bin/python3", "-I", "-c", script, *words)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_doctor__loses_no_check_to_an_entry_that_vanishes(busy: PatientHost, owner: Person) -> None:
    store = busy.directory / "state" / str(owner.uid)
    store.chmod(0o755)
    calm, found = busy.examine(), found_in(disturbed(busy, "doctor", "--json"))
    assert found.looked_at == calm.looked_at
    assert found.not_looked_at == calm.not_looked_at
    assert found.findings == calm.findings
    found.only(f"{STORE}/{owner.uid}", "can look into it")


def test_status__lists_everybody_while_entries_vanish(busy: PatientHost, owner: Person) -> None:
    document = json.loads(disturbed(busy, "status", "--json").stdout)
    assert owner.name in [each["user"] for each in document["users"] if each["status"] == "enrolled"]
    assert document["orphans"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rebind", "--all", "--yes"), "for no account is it clear what it was before"),
        (("forget", "--all", "--yes"), "no account that is gone has left anything"),
    ],
)
def test_command_for_all__is_not_misled_by_entries_that_vanish(
    busy: PatientHost, words: tuple[str, ...], said: str
) -> None:
    done = disturbed(busy, *words)
    assert done.returncode == 1
    assert said in done.stderr


def test_move_and_revoke__do_their_work_while_entries_vanish(busy: PatientHost, owner: Person) -> None:
    assert disturbed(busy, "move", "--all", "--to=home", listed=f"{STORE}/enrolled").returncode == 0
    assert (owner.store / "tokens").exists()
    assert disturbed(busy, "move", "--all", "--to=system", listed=f"{STORE}/enrolled").returncode == 0
    assert not owner.store.exists()
    revoked = disturbed(busy, "revoke", owner.name, "--yes", listed=f"{STORE}/revoked/{owner.uid}")
    assert revoked.returncode == 0, revoked.stderr


def test_forget__goes_on_when_a_store_is_gone_before_its_turn(busy: PatientHost, world: Path) -> None:
    with resident_of(world / "homes-gone") as first, resident_of(world / "homes-gone-2") as second:
        busy.enrol(first)
        busy.enrol(second)
    script = _GONE_BEFORE.format(root=str(busy.installed.root), path=f"{STORE}/{first.uid}")
    done = busy.run("/usr/bin/python3", "-I", "-c", script, "forget", "--all")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "Done."), done.stderr
    assert not (busy.directory / "state" / str(second.uid)).exists()
    assert not list((busy.directory / "state" / "enrolled").glob(str(second.uid)))


def test_forget__takes_nothing_away_from_an_account_that_is_made_while_it_asks(
    busy: PatientHost, world: Path, passwd: Path
) -> None:
    """Root takes time to answer, and the account may come back meanwhile."""
    with resident_of(world / "homes-back") as person:
        busy.enrol(person)
        line = next(line for line in passwd.read_text().splitlines() if line.startswith(f"{person.name}:"))
    script = _BACK.format(root=str(busy.installed.root), line=line)
    done = busy.run("/usr/bin/python3", "-I", "-c", script, "forget", "--all")
    assert done.returncode == 1
    assert "changed meanwhile; nothing was taken away" in done.stderr
    assert (busy.directory / "state" / str(person.uid) / "tokens").exists()
    assert (busy.directory / "state" / "enrolled" / str(person.uid)).exists()


def test_rebind_newcomer__takes_no_tokens_away_that_are_made_while_it_asks(busy: PatientHost, owner: Person) -> None:
    tokens = busy.directory / "state" / str(owner.uid) / "tokens"
    own = tokens.read_text()
    tokens.write_text(own.replace(f'"{owner.name}"', '"former"'))
    assert tokens.read_text() != own
    script = _ENROLLED.format(root=str(busy.installed.root), path=f"{STORE}/{owner.uid}/tokens", own=own)
    done = busy.run("/usr/bin/python3", "-I", "-c", script, "rebind", owner.name, "--newcomer")
    assert done.returncode == 1, done.stderr
    assert f"are those of {owner.name}" in done.stderr
    assert tokens.read_text() == own


def test_doctor__advises_nothing_that_hands_a_users_files_to_root_unread(busy: PatientHost, owner: Person) -> None:
    """The user's own directory in root's store has links to the files of others; `mend` follows none of them."""
    store = busy.directory / "state" / str(owner.uid)
    precious = busy.directory / "precious"
    precious.write_text("theirs")
    os.chown(precious, owner.uid, owner.gid)
    for path in (store, store / "tokens", store / "state"):
        os.chown(path, owner.uid, owner.gid)
    os.link(precious, store / "theirs")
    finding = busy.examine().only(f"{STORE}/{owner.uid}", "somebody other than root owns it")
    assert finding["mend"] == f"softtoken-admin mend {owner.name} --store {STORE}/%U"
    busy.mend(finding)
    assert precious.stat().st_uid == owner.uid
    assert (store / "tokens").stat().st_uid == 0


def test_doctor__looks_only_at_directories_that_could_be_a_users_store(busy: PatientHost) -> None:
    """With the variable in the middle of the path, the directories beside it belong to other programs."""
    beside = busy.directory / "state" / "programs"
    for name in ("100", "spool", "424242"):
        (beside / name).mkdir(mode=0o755, parents=True)
    (beside / "424242" / "otp").mkdir(mode=0o755)
    busy.set_conf(f"store = {STORE}/programs/%U/otp\n")
    found = [each["place"] for each in busy.examine().findings if each["place"].startswith(f"{STORE}/programs")]
    assert found == [f"{STORE}/programs/424242/otp"]
