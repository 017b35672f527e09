"""Check by real logins, before and after, that `enable` is right about which users get in.

Each host is a real sshd in its own network and mount namespace. Only users that `enable` has named are locked out. An
ordinary run has some of the hosts.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.account import Person, resident_of
from tests.support.installation import Installation
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until
from tests.support.sampling import sampled
from tests.support.ways import CODE, FAR, KEY, NEAR, PASSWORD, Gate, Table, telling_attempts

GROUP = "softtokenrobots"
PATIENCE_S = 300
ASKED = "asks for a code now"
_SUDOERS = """
Defaults env_reset
Defaults lecture=never
Defaults timestamp_timeout=0
root ALL=(ALL:ALL) ALL
{sudoer} ALL=(ALL:ALL) ALL
"""


class People(NamedTuple):
    """The users: an administrator with everything, a user with only a password, and a machine with only a key."""

    admin: Person
    plain: Person
    robot: Person


@pytest.fixture(scope="module")
def people(world: Path) -> Iterator[People]:
    """The users of all hosts of this file."""
    homes = world / "ways-homes"
    homes.mkdir(mode=0o755)
    homes.chmod(0o755)
    made = [resident_of(homes / name) for name in ("admin", "plain", "robot")]
    persons = [each.__enter__() for each in made]
    subprocess.run(["groupadd", GROUP], check=True)
    subprocess.run(["usermod", "--append", "--groups", GROUP, persons[2].name], check=True)
    subprocess.run(["usermod", "--password", "*", persons[2].name], check=True)
    yield People(*persons)
    for each in made:
        each.__exit__(None, None, None)
    subprocess.run(["groupdel", GROUP], check=True)


class Scene:
    """A host, its users, and `softtoken-admin` there.

    Args:
        mounts: the host's mount namespace.
        gate: its sshd.
        people: its users.
        installed: the installation of the program.
    """

    def __init__(self, mounts: PrivateMounts, gate: Gate, people: People, installed: Installation) -> None:
        self.mounts = mounts
        self.gate = gate
        self.people = people
        self._program = str(installed.root / "scripts" / "softtoken-admin")

    def command(self, *words: str, runner: str = "") -> list[str]:
        """Return the command line of the program, run by a user through sudo."""
        return self.mounts.command("env", f"SUDO_USER={runner}", self._program, *words)

    def run(self, *words: str, runner: str = "") -> subprocess.CompletedProcess[str]:
        """Run it without a terminal. A change that should not have begun is undone at once."""
        words = (*words, "--for=1s") if words[0] == "enable" else words
        return subprocess.run(
            self.command(*words, runner=runner),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip

    def enable(self, *words: str, service: str = "sshd") -> None:
        """Turn it on, and keep it."""
        record = self.mounts.directory / "enable.log"
        command = self.command("enable", service, "--for=5m", *words, runner=self.people.admin.name)
        with (
            record.open("w") as log,
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, stdout=log) as done,
        ):
            wait_until(lambda: ASKED in record.read_text() or done.poll() is not None, "the change to be in use")
            assert done.poll() is None, record.read_text()
            confirmed = self.run("confirm", service)
            assert confirmed.returncode == 0, confirmed.stderr
            assert done.wait(PATIENCE_S) == 0, record.read_text()

    def try_claims(
        self, table: Table, when: str, users: list[str], sources: dict[str, str]
    ) -> dict[tuple[str, str], bool]:
        """Check the table's claims by real logins, one after the other for each user.

        Returns:
            For each user and source whether there is a way in.
        """

        def try_one(user: str) -> list[str]:
            wrong = []
            for label, source in sources.items():
                for given, expected in telling_attempts(table.ways(user, label, when)):
                    if self.gate.lets_in(user, given, source) != expected:
                        wrong.append(f"{when}: {user} from {label} with {sorted(given)}: not {expected}")
            return wrong

        with ThreadPoolExecutor(len(users)) as pool:
            wrong = [each for found in pool.map(try_one, users) for each in found]
        assert not wrong, "\n".join([*wrong, self.gate.log()[-6000:]])
        return {(user, label): bool(table.ways(user, label, when)) for user in users for label in sources}

    def sudo(self, person: Person, proofs: set[str]) -> bool:
        """Become root by sudo with exactly these proofs, and wrong answers to other prompts."""
        environment = self.gate.typed(person.name, proofs)
        words = ["env", f"SUDO_ASKPASS={environment['SSH_ASKPASS']}", "sudo", "-A", "id", "-un"]
        done = subprocess.run(
            self.mounts.command(*person.identity, *words),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=environment,
        )  # fmt: skip
        return done.stdout == "root\n"

    def try_sudo(self, table: Table, when: str, people: People) -> None:
        """Check the table's claims about sudo."""
        for person in people:
            ways = table.ways(person.name, "anywhere", when)
            for given, expected in telling_attempts(ways):
                assert self.sudo(person, given) == expected, (when, person.name, given)


class Case(NamedTuple):
    """A kind of host.

    Args:
        settings: of sshd.
        options: of `enable`.
        lost: who would be locked out, and has to be named.
        with_root: root has a key.
        from_near: connections from near are another class.
        then: what the administrator needs then, from elsewhere.
        refused: who gets in as soon as they are enrolled; those who are locked out, unless the case says otherwise.
    """

    settings: str
    options: tuple[str, ...] = ()
    lost: tuple[str, ...] = ("plain",)
    with_root: bool = False
    from_near: bool = False
    then: tuple[set[str], ...] = ({PASSWORD, CODE},)
    refused: tuple[str, ...] | None = None


BOTH = ({KEY}, {PASSWORD, CODE})
CASES = {
    "password": Case("PubkeyAuthentication no\n"),
    "key only": Case(
        "PasswordAuthentication no\n", lost=("robot", "root"), with_root=True, then=({KEY, CODE},), refused=("robot",)
    ),
    "key or password": Case("", then=BOTH, with_root=True),
    "key or password, to key and code": Case(
        "", ("--with=publickey",), lost=("plain", "robot"), then=({KEY, CODE},), refused=("robot",)
    ),
    "key and password": Case(
        "AuthenticationMethods publickey,password\n", lost=(), then=({KEY, PASSWORD, CODE},)
    ),
    "methods: key": Case("AuthenticationMethods publickey\n", lost=("robot",), then=({KEY, CODE},)),
    "root may give a code": Case(
        "PasswordAuthentication no\nPermitRootLogin yes\n", lost=("robot", "root"), with_root=True, then=({KEY, CODE},)
    ),
    "automation by key": Case(
        "PasswordAuthentication no\n", (f"--except={GROUP}",), lost=(), then=({KEY, CODE},)
    ),
    "automation by key beside passwords": Case("", (f"--except={GROUP}", "--with=password"), then=BOTH),
    "Match User": Case(
        "PasswordAuthentication no\nMatch User {robot}\n  AuthenticationMethods publickey\n", lost=(),
        then=({KEY, CODE},),
    ),
    "Match Group": Case(
        f"PasswordAuthentication no\nMatch Group {GROUP}\n  AuthenticationMethods publickey\n", lost=(),
        then=({KEY, CODE},),
    ),
    "Match Address": Case(
        "PasswordAuthentication no\nMatch Address 10.0.0.0/8\n  AuthenticationMethods publickey\n",
        lost=("robot",), from_near=True, then=({KEY, CODE},),
    ),
    "passwords of a network only": Case(
        "PasswordAuthentication no\nMatch Address 10.0.0.0/8\n  PasswordAuthentication yes\n",
        lost=("robot", "plain"), from_near=True, then=({KEY, CODE},), refused=("robot",),
    ),
    "those who enrol later": Case("PasswordAuthentication no\n", ("--enrol-later",), lost=(), then=({KEY, CODE},)),
}  # fmt: skip


@pytest.fixture
def make_scene(world: Path, people: People, installed: Installation) -> Iterator[Callable[[str], Scene]]:
    """Return a function that creates a host with the given settings of sshd."""
    if not PrivateMounts.possible():
        pytest.skip("needs CAP_SYS_ADMIN: the hosts stand in a private mount and network namespace")
    made: list[Scene] = []

    def make(settings: str) -> Scene:
        directory = Path(tempfile.mkdtemp(prefix="ways-", dir=world))
        directory.chmod(0o755)
        mounts = PrivateMounts(directory / "mounts", (NEAR, FAR))
        (mounts.directory / "sudoers").write_text(_SUDOERS.format(sudoer=people.admin.name))
        gate = Gate(mounts, settings.replace("{robot}", people.robot.name))
        scene = Scene(mounts, gate, people, installed)
        made.append(scene)
        for user in (people.admin, people.robot):
            gate.give_key(user.name)
        people.admin.forget()
        gate.know(people.admin, people.admin.enrol(installed, "--type=hotp", "--recovery-codes=0"))
        gate.know(people.plain)
        return scene

    yield make
    for scene in made:
        scene.gate.close()
        scene.mounts.close()


@pytest.mark.parametrize("name", sampled(CASES, 0.3, always=("key only", "key or password, to key and code")))
def test_table__is_true_before_and_after(name: str, make_scene: Callable[[str], Scene]) -> None:
    case = CASES[name]
    scene = make_scene(case.settings)
    users = [each.name for each in scene.people]
    known = dict(zip(("admin", "plain", "robot"), users, strict=True)) | {"root": "root"}
    if case.with_root:
        scene.gate.give_key("root")
    users += ["root"]
    sources = {"elsewhere": FAR} | ({"10.0.0.0/8": NEAR} if case.from_near else {})
    admin = scene.people.admin.name
    shown = scene.run("enable", "sshd", "--dry-run", *case.options, runner=admin)
    assert shown.returncode == 0, shown.stderr
    table = Table(shown.stderr)
    assert sorted(map(sorted, table.ways(admin, "elsewhere", "then"))) == sorted(map(sorted, case.then)), shown.stderr
    before = scene.try_claims(table, "today", users, sources)

    # Only named users are locked out.
    lost = {known[each] for each in case.lost}
    if lost:
        refused = scene.run("enable", "sshd", "--yes", *case.options, runner=admin)
        assert refused.returncode == 1
        assert {each.strip() for each in refused.stderr.split("--lock-out ")[1].split(",")} == lost, refused.stderr
    scene.enable("--yes", *case.options, *([f"--lock-out={','.join(lost)}"] if lost else []))
    after = scene.try_claims(table, "then", users, sources)
    assert {user for user, label in before if before[user, label] and not after[user, label]} == lost

    # The status lists users who are refused without a token, and exempt users.
    (service,) = json.loads(scene.run("status", "--json").stdout)["services"]
    refused_now = {known[each] for each in (case.lost if case.refused is None else case.refused)}
    assert set(service["refused"]) == refused_now
    assert service["exempt"] == ({GROUP: [known["robot"]]} if any("--except" in each for each in case.options) else {})

    # The doctor has no objection.
    found = json.loads(scene.run("doctor", "--json").stdout)["findings"]
    mine = [each for each in found if each["family"] in ("sshd", "PAM services", "options", "users")]
    assert [each for each in mine if each["severity"] != "note"] == []
    done = scene.run("disable", "sshd")
    assert done.returncode == 0, done.stderr


def test_enable__never_opens_a_way_in_that_is_closed(make_scene: Callable[[str], Scene]) -> None:
    scene = make_scene("PasswordAuthentication no\n")
    admin = scene.people.admin.name
    done = scene.run("enable", "sshd", "--with=password", "--force", "--dry-run", runner=admin)
    assert done.returncode == 1
    assert "with password and code, which is closed today" in done.stderr
    assert "hint: --with publickey asks for the code on top of the key" in done.stderr.splitlines()[-1]
    (line,) = [each for each in scene.run("enable", "sshd", "--dry-run", runner=admin).stdout.splitlines()
               if each.startswith("+AuthenticationMethods")]  # fmt: skip
    assert line == "+AuthenticationMethods publickey,keyboard-interactive"
    shown = scene.run("enable", "sshd", "--dry-run", runner=admin).stderr
    assert "Passwords are closed here, so the code comes on top of the key" in shown


def test_enable__code_alone_behind_a_match_is_refused_with_its_line(make_scene: Callable[[str], Scene]) -> None:
    scene = make_scene("Match Address 10.0.0.0/8\n  AuthenticationMethods password keyboard-interactive\n")
    done = scene.run("enable", "sshd", "--with=publickey", "--force", "--dry-run", runner=scene.people.admin.name)
    assert done.returncode == 1
    assert "from 10.0.0.0/8 with code, which is closed today: /etc/ssh/sshd_config:" in done.stderr
    assert "AuthenticationMethods password keyboard-interactive (Match Address 10.0.0.0/8)" in done.stderr


def test_enable__match_that_overrides_is_named_with_its_network_and_line(make_scene: Callable[[str], Scene]) -> None:
    scene = make_scene("Match Address 10.0.0.0/8\n  AuthenticationMethods publickey\n")
    done = scene.run("enable", "sshd", "--with=publickey", "--force", "--dry-run", runner=scene.people.admin.name)
    assert done.returncode == 0, done.stderr
    (line,) = [each for each in done.stderr.splitlines() if "overrides this" in each]
    assert line.startswith("Match Address 10.0.0.0/8 (/etc/ssh/sshd_config:"), line
    assert line.endswith("overrides this: AuthenticationMethods publickey")


@pytest.mark.parametrize("settings", ["KbdInteractiveAuthentication no", "AuthenticationMethods publickey"])
def test_enable__sshd_that_can_never_ask_is_refused_without_a_change_too(
    settings: str, make_scene: Callable[[str], Scene]
) -> None:
    scene = make_scene(f"Match all\n  {settings}\n")
    done = scene.run("enable", "sshd", "--dry-run", "--force", runner=scene.people.admin.name)
    assert done.returncode == 1
    assert "sshd would never ask for a code: /etc/ssh/sshd_config:" in done.stderr
    assert f"{settings} (Match all)" in done.stderr


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--yes", "--lock-out={plain}")])
def test_enable__refuses_to_lock_out_the_caller(options: tuple[str, ...], make_scene: Callable[[str], Scene]) -> None:
    scene = make_scene("PubkeyAuthentication no\n")
    plain = scene.people.plain.name
    done = scene.run("enable", "sshd", *(each.format(plain=plain) for each in options), runner=plain)
    assert done.returncode == 1
    assert f'you are {plain}, and would not get in at "sshd" any more: not enrolled' in done.stderr
    assert f"softtoken-enroll --user {plain} first" in done.stderr


@pytest.mark.parametrize("service", ["sudo", "sshd", "login"])
def test_enable__refuses_to_lock_out_the_last_account_that_can_become_root(
    service: str, make_scene: Callable[[str], Scene], installed: Installation
) -> None:
    scene = make_scene("PubkeyAuthentication no\n")
    admin, plain = scene.people.admin, scene.people.plain
    admin.forget()
    plain.enrol(installed, "--recovery-codes=0")
    try:
        done = scene.run("enable", service, "--yes", f"--lock-out={admin.name}", runner=plain.name)
        assert done.returncode == 1
        assert f'nobody who can become root would get in at "{service}" any more' in done.stderr
        assert ASKED not in done.stderr
    finally:
        plain.forget()


def test_sudo__table_is_true_and_the_unenrolled_sudoer_is_named(
    make_scene: Callable[[str], Scene], people: People
) -> None:
    scene = make_scene("")
    admin, plain = people.admin, people.plain
    rules = (
        _SUDOERS.format(sudoer=admin.name)
        + f"{plain.name} ALL=(ALL:ALL) ALL\n{people.robot.name} ALL=(ALL) NOPASSWD: ALL\n"
    )
    (scene.mounts.directory / "sudoers").write_text(rules)
    shown = scene.run("enable", "sudo", "--dry-run", runner=admin.name)
    table = Table(shown.stderr)
    users = (admin.name, plain.name, people.robot.name)
    assert [table.ways(user, "anywhere", "today") for user in users] == [[{PASSWORD}], [{PASSWORD}], [set()]]
    assert [table.ways(user, "anywhere", "then") for user in users] == [[{PASSWORD, CODE}], [], [set()]]
    scene.try_sudo(table, "today", people)
    refused = scene.run("enable", "sudo", "--yes", runner=admin.name)
    assert f"this would lock out {plain.name}; nothing was changed" in refused.stderr
    scene.enable("--yes", f"--lock-out={plain.name}", service="sudo")
    scene.try_sudo(table, "then", people)
    found = json.loads(scene.run("doctor", "--json").stdout)["findings"]
    assert [each for each in found if each["severity"] != "note" and each["family"] == "PAM services"] == []
    assert "pam_softtoken" in (scene.mounts.directory / "pam.d" / "sudo-i").read_text()
    assert scene.run("disable", "sudo").returncode == 0
    assert "pam_softtoken" not in (scene.mounts.directory / "pam.d" / "sudo-i").read_text()


def test_sudo__exempt_group_gets_in_as_before(make_scene: Callable[[str], Scene], people: People) -> None:
    scene = make_scene("")
    plain = people.plain.name
    group = subprocess.run(["id", "-gn", plain], check=True, capture_output=True, text=True).stdout.strip()
    rules = _SUDOERS.format(sudoer=people.admin.name) + f"{plain} ALL=(ALL:ALL) ALL\n"
    (scene.mounts.directory / "sudoers").write_text(rules)
    before = (scene.mounts.directory / "pam.d" / "sudo").read_text()
    scene.enable("--yes", f"--except={group}", service="sudo")
    assert scene.sudo(people.plain, {PASSWORD})
    assert not scene.sudo(people.plain, set())
    assert not scene.sudo(people.admin, {PASSWORD})
    assert scene.sudo(people.admin, {PASSWORD, CODE})
    assert scene.run("disable", "sudo").returncode == 0
    assert (scene.mounts.directory / "pam.d" / "sudo").read_text() == before


def test_table__has_no_line_for_accounts_that_are_over_or_denied(make_scene: Callable[[str], Scene]) -> None:
    scene = make_scene("DenyUsers {robot}\n")
    plain, robot = scene.people.plain.name, scene.people.robot.name
    subprocess.run(["usermod", "--expiredate", "1", plain], check=True)
    try:
        table = Table(scene.run("enable", "sshd", "--dry-run", runner=scene.people.admin.name).stderr)
        assert table.ways(plain, "anywhere", "today") == table.ways(robot, "anywhere", "today") == []
        assert not scene.gate.lets_in(plain, {PASSWORD})
    finally:
        subprocess.run(["usermod", "--expiredate", "", plain], check=True)
    assert not scene.gate.lets_in(robot, {KEY})
    assert scene.gate.lets_in(plain, {PASSWORD})


def test_except__is_refused_if_it_changes_the_ways_in_of_a_group(make_scene: Callable[[str], Scene]) -> None:
    scene = make_scene("")
    plain = scene.people.plain.name
    group = subprocess.run(["id", "-gn", plain], check=True, capture_output=True, text=True).stdout.strip()
    options = ("--with=publickey", f"--except={group}", "--dry-run", "--force")
    done = scene.run("enable", "sshd", *options, runner=scene.people.admin.name)
    assert done.returncode == 1
    assert f"--except would not leave {plain} as today: password today, no way in then" in done.stderr
    assert scene.run("enable", "sshd", "--except", "no-such-group").stderr.startswith(
        'softtoken-admin: error: no such group: "no-such-group"'
    )
    assert scene.run("enable", "sshd", "--except", "a b").returncode == 2
