"""`softtoken-enroll --import` of a file with entries that cannot be used: all or nothing, or --skip-unusable."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import Enroller, Mistake
from tests.support.installation import Installation
from tests.support.peers import KEY_HEX, hotp

OTHER_HEX = "3132333435363738393031323334353637383930313233343536373839303132"
SHORT_HEX = "31323334353637383930"
TAKE = ("--import",)
SKIP = "--skip-unusable"
STOPPING = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pam_softtoken.enroll import import_tokens, program
really, place = import_tokens.Takeover.carry_out, {place!r}
def carry_out(self):
    if self.user != "mass150":
        return really(self)
    {how}
import_tokens.Takeover.carry_out = carry_out
sys.exit(program.main(sys.argv[1:]))
"""
"""The program, with a mishap while it takes over the tokens of one user."""
FORKING = """
import errno, os, sys
sys.path.insert(0, {root!r})
from pam_softtoken.enroll import program
really, left = os.fork, [None] * {most}
def fork():
    if not left:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    left.pop()
    return really()
os.fork = fork
sys.exit(program.main(sys.argv[1:]))
"""
"""The program on a host that lets it start only some processes."""
MANY, FIRST_UID = 300, 420500
MakePerson = Callable[[], Person]


@pytest.fixture
def users(outside: Path) -> Path:
    """A users file of pam_oath, empty as yet."""
    path = outside / "users.oath"
    path.touch(mode=0o600)
    return path


@pytest.fixture
def bad_lines(users: Path, alice: Person, bob: Person) -> Path:
    """A users file in which only the last line can be used."""
    users.write_text(
        f"HOTP {bob.name} - {SHORT_HEX}\n"
        f"HOTP departed - {OTHER_HEX}\n"
        f"HOTP {bob.name} - {OTHER_HEX}zz\n"
        f"HOTP {bob.name} 1 {OTHER_HEX}\n"
        f"HOTP {alice.name} - {KEY_HEX} 7\n"
    )
    return users


@pytest.fixture
def bob(make_person: MakePerson) -> Person:
    """A second user."""
    return make_person()


def expected(bob: Person) -> list[tuple[str, str]]:
    """Return the places and users that stop an import of `bad_lines`, and a part of the reason."""
    return [
        (f"line 1 ({bob.name})", "80 bits"),
        ("line 2 (departed)", "no such user"),
        (f"line 3 ({bob.name})", "not hexadecimal"),
        (f"line 4 ({bob.name})", "4 to 16 characters"),
    ]


def test_import__all_or_nothing_names_every_user_that_stopped_it(
    enroller: Enroller, bad_lines: Path, alice: Person, bob: Person
) -> None:
    for words in ((), ("--dry-run",)):
        refused = enroller.run(*TAKE, bad_lines, *words).refused()
        for place, why in expected(bob):
            assert any(part.startswith(place) and why in part for part in _parts(refused.error)), refused.error
        assert SKIP in refused.hint
        assert "hex" not in refused.hint
        assert not alice.store.exists()
        assert not bob.store.exists()


def _parts(error: str) -> list[str]:
    return error.partition(": ")[2].split("; ")


@pytest.mark.parametrize("words", [("--dry-run",), ()])
def test_skip_unusable__takes_the_rest_and_lists_what_was_left_out(
    enroller: Enroller, bad_lines: Path, alice: Person, bob: Person, service: Service, words: tuple[str, ...]
) -> None:
    done = enroller.run(*TAKE, bad_lines, SKIP, *words)
    assert (done.status, done.stdout) == (0, f'{alice.name}: "phone", HOTP, SHA1, 6 digits, counting\n'), done.stderr
    lines = done.stderr.splitlines()
    for place, why in expected(bob):
        assert any(line.startswith(f"Left out: {place}: ") and why in line for line in lines), done.stderr
    assert "4 entries were left out." in lines
    assert OTHER_HEX not in done.stderr
    assert not bob.store.exists()
    if words:
        assert not alice.store.exists()
    else:
        assert service.log_in(alice, hotp(KEY_HEX, 6)).result == PAM_AUTH_ERR
        assert service.log_in(alice, hotp(KEY_HEX, 7)).result == PAM_SUCCESS


@pytest.mark.parametrize("words", [("--dry-run",), ()])
def test_skip_unusable__fails_if_nothing_is_left(
    enroller: Enroller, users: Path, alice: Person, words: tuple[str, ...]
) -> None:
    for text, why in ((f"HOTP departed - {KEY_HEX}\n", "no such user"), (f"HOTP {alice.name} - 00\n", "8 bits")):
        users.write_text(text)
        refused = enroller.run(*TAKE, users, SKIP, *words).refused()
        assert "line 1 (" in refused.error
        assert why in refused.error
    assert not alice.store.exists()


def test_skip_unusable__imports_again_what_was_interrupted(
    enroller: Enroller, users: Path, alice: Person, bob: Person, service: Service
) -> None:
    """A key that is there already is left out, and so the same command goes on where it stopped."""
    users.write_text(f"HOTP {alice.name} - {KEY_HEX} 7\n")
    assert enroller.run(*TAKE, users, "--no-confirm", "--recovery-codes=0").status == 0
    before = (alice.store / "tokens").read_bytes()
    users.write_text(f"HOTP {alice.name} - {KEY_HEX} 7\nHOTP {bob.name} - {OTHER_HEX} 7\n")
    refused = enroller.run(*TAKE, users).refused()
    assert f'line 1 ({alice.name}): its key is that of token "phone"' in refused.error
    done = enroller.run(*TAKE, users, SKIP)
    assert done.status == 0, done.stderr
    assert f"Left out: line 1 ({alice.name}): its key is that" in done.stderr
    assert (alice.store / "tokens").read_bytes() == before
    assert service.log_in(bob, hotp(OTHER_HEX, 7)).result == PAM_SUCCESS


def test_skip_unusable__home_that_cannot_be_used_stops_only_its_user(
    enroller: Enroller, users: Path, alice: Person, bob: Person
) -> None:
    bob.home.chmod(0o777)
    users.write_text(f"HOTP {bob.name} - {OTHER_HEX}\nHOTP {alice.name} - {KEY_HEX}\n")
    refused = enroller.run(*TAKE, users).refused()
    assert f"({bob.name}): {bob.home}: others can write it" in refused.error
    assert not alice.store.exists()
    done = enroller.run(*TAKE, users, SKIP)
    assert done.status == 0
    assert f"({bob.name}): {bob.home}: others can write it" in done.stderr
    assert alice.store.exists()


def test_skip_unusable__only_user_that_is_left_is_asked_nothing_and_gets_no_recovery_codes(
    enroller: Enroller, users: Path, alice: Person, bob: Person
) -> None:
    """Root takes over a host's file: nobody is there to see recovery codes, however many users are left."""
    users.write_text(f"HOTP {bob.name} - {SHORT_HEX}\nHOTP departed - {OTHER_HEX}\nHOTP {alice.name} - {KEY_HEX}\n")
    done = enroller.run(*TAKE, users, SKIP)
    assert done.status == 0, done.stderr
    assert "2 entries were left out." in done.stderr
    assert '"hashes": []' in (alice.store / "tokens").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "HOTP {user} - {key} 7\nHOTP {user} - {key} 9\n",
        "HOTP {user} - {key} 9\nHOTP {user} - {key} 7\n",
        "HOTP/E/6 {user} - {key} 7\nHOTP/E/8 {user} - {key} 9\n",
        "otpauth://hotp/a?secret={base32}&counter=7\notpauth://hotp/b?secret={base32}&counter=9\n",
    ],
    ids=["higher", "lower", "longer", "uris"],
)
def test_skip_unusable__what_an_entry_that_is_left_out_knows_as_used_stays_used(
    enroller: Enroller, users: Path, alice: Person, service: Service, text: str
) -> None:
    """A key that is there twice is taken once. Its codes count as used up to the higher of both counters."""
    base32 = base64.b32encode(bytes.fromhex(KEY_HEX)).decode().rstrip("=")
    users.write_text(text.format(user=alice.name, key=KEY_HEX, base32=base32))
    done = enroller.run(*TAKE, users, SKIP, "--user", alice.name, "--no-confirm")
    assert done.status == 0, done.stderr
    assert "Left out: line 2" in done.stderr
    assert service.log_in(alice, hotp(KEY_HEX, 8)).result == PAM_AUTH_ERR
    assert service.log_in(alice, hotp(KEY_HEX, 9)).result == PAM_SUCCESS


def test_skip_unusable__name_that_the_store_cannot_have_stops_only_its_user(
    enroller: Enroller, users: Path, outside: Path
) -> None:
    users.write_text(f"HOTP mass001 - {KEY_HEX}\nHOTP .mass - {OTHER_HEX}\n")
    (outside / "store").mkdir(mode=0o700)
    program = with_many_users(enroller, outside, f".mass:x:{FIRST_UID + MANY}:100::/nonexistent:/bin/sh\n")
    words = (*TAKE, users, "--store", f"{outside}/store/%u")
    why = "line 2 (.mass): store: %u cannot stand for the user name '.mass'; use %U"
    assert why in program.run(*words).refused().error
    done = program.run(*words, SKIP)
    assert done.status == 0, done.stderr
    assert f"Left out: {why}.\n" in done.stderr
    assert (outside / "store/mass001/tokens").exists()


def test_import__of_many_users_goes_on_with_the_processes_that_can_be_started(
    installed: Installation, users: Path, outside: Path
) -> None:
    users.write_text("".join(f"HOTP mass{number:03d} - {number:040x}\n" for number in range(40)))
    (outside / "store").mkdir(mode=0o700)
    for most in (0, 2):
        script = FORKING.format(root=str(installed.root), most=most)
        program = with_many_users(Enroller("/usr/bin/python3", "-I", "-c", script), outside)
        done = program.run(*TAKE, users, "--store", f"{outside}/store/{most}-%U")
        assert done.status == 0, done.stderr
        assert done.stderr == "Done. 40 users are enrolled.\n"
        assert len(list(outside.glob(f"store/{most}-*/tokens"))) == 40


def test_import__of_one_user_is_not_stopped_by_the_entries_of_others(
    enroller: Enroller, users: Path, alice: Person, bob: Person
) -> None:
    users.write_text(f"HOTP {bob.name} - {SHORT_HEX}\nHOTP {alice.name} - {KEY_HEX}\n")
    assert enroller.run(*TAKE, users, "--user", alice.name, "--no-confirm").status == 0
    assert alice.store.exists()


def test_import__secret_in_the_place_of_a_name_is_not_shown(enroller: Enroller, users: Path) -> None:
    """Without the user, the PIN or the key stands where the user should be."""
    for line in (f"HOTP 471147 {KEY_HEX} 5", f"HOTP 471147 {KEY_HEX} 55", f"HOTP {KEY_HEX} - 471147"):
        users.write_text(line + "\n")
        refused = enroller.run(*TAKE, users, SKIP).refused()
        assert "471147" not in refused.error + refused.hint
        assert KEY_HEX not in refused.error + refused.hint


def test_skip_unusable__goes_with_an_import_only(enroller: Enroller) -> None:
    assert enroller.run(SKIP).refused(2).error == "--skip-unusable goes with --import"


def test_import__of_many_users_keeps_few_files_open_and_prints_in_order(
    enroller: Enroller, users: Path, outside: Path
) -> None:
    """Several hundred users in a store of root's, with fewer descriptors than users, and one user gone."""
    names = [f"mass{number:03d}" for number in range(MANY)]
    users.write_text("".join(f"HOTP {name} - {number:040x}\n" for number, name in enumerate([*names, "departed"])))
    (outside / "store").mkdir(mode=0o700)
    done = with_many_users(enroller, outside).run(*TAKE, users, "--store", f"{outside}/store/%U", SKIP)
    assert done.status == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == names
    assert done.stderr == (
        f"Left out: line {MANY + 1} (departed): there is no such user on this host.\n"
        f"1 entry was left out.\nDone. {MANY} users are enrolled.\n"
    )
    directories = {path.name: {file.name for file in path.iterdir()} for path in (outside / "store").iterdir()}
    assert directories == {str(FIRST_UID + number): {"state", "tokens"} for number in range(MANY)}


def with_many_users(enroller: Enroller, outside: Path, more: str = "") -> Enroller:
    """Return the program in a mount namespace where the host has `MANY` more users, with few descriptors."""
    accounts = outside / "passwd"
    mine = [f"mass{n:03d}:x:{FIRST_UID + n}:{FIRST_UID + n}::/nonexistent:/bin/sh\n" for n in range(MANY)]
    accounts.write_text(Path("/etc/passwd").read_text() + "".join(mine) + more)
    script = f"""
        mount --bind {accounts} /etc/passwd && mkdir -p -m 711 /var/lib/softtoken &&
        mount -t tmpfs -o mode=711 tmpfs /var/lib/softtoken && ulimit -n 40 && exec "$@"
    """
    return enroller.after("unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh")


def test_import__of_many_users_shows_progress_on_a_terminal(enroller: Enroller, users: Path, outside: Path) -> None:
    users.write_text("".join(f"HOTP mass{number:03d} - {number:040x}\n" for number in range(20)))
    (outside / "store").mkdir(mode=0o700)
    program = with_many_users(enroller, outside)
    with program.start(*TAKE, users, "--store", f"{outside}/store/%U", piped=(1,)) as dialogue:
        assert dialogue.finish() == 0
        assert "importing" in dialogue.transcript
        assert "Done. 20 users are enrolled." in dialogue.transcript
        assert "importing" not in dialogue.file(1)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("open(place, 'w').close(); return really(self)", "mass150: {place}: "),
        ("os.kill(os.getpid(), signal.SIGKILL)", "mass150: a process of the import was killed; "),
        ("really(self); os.kill(os.getpid(), signal.SIGKILL)", "mass166: a process of the import was killed; "),
        ("os.kill(os.getppid(), signal.SIGTERM); return really(self)", "interrupted; "),
    ],
    ids=["broken", "killed", "killed late", "interrupted"],
)
def test_import__that_is_stopped_in_the_middle_says_what_is_done_and_goes_on(
    enroller: Enroller, installed: Installation, users: Path, outside: Path, how: str, why: str
) -> None:
    """Each user has both files, or nothing. The same command takes over the others later."""
    users.write_text("".join(f"HOTP mass{number:03d} - {number:040x}\n" for number in range(MANY)))
    store = outside / "store"
    store.mkdir(mode=0o700)
    place = store / str(FIRST_UID + 150)
    words = (*TAKE, users, "--store", f"{store}/%U")
    script = STOPPING.format(root=str(installed.root), place=str(place), how=how)
    stopping = Enroller("/usr/bin/python3", "-I", "-c", script)
    done = with_many_users(stopping, outside).run(*words)
    refused = Mistake(done.stderr)
    enrolled = {path.parent.name for path in store.glob("*/tokens")}
    assert done.status == 1
    assert refused.error.startswith(why.format(place=place))
    assert f"; {len(enrolled)} users are enrolled, {MANY - len(enrolled)} are not" in refused.error
    assert refused.before.count("mass") == len(enrolled)
    assert SKIP in refused.hint
    assert 0 < len(enrolled) < MANY or how.startswith("os.kill(os.getppid()")
    assert all(
        {file.name for file in path.iterdir()} == {"state", "tokens"} for path in store.iterdir() if path.is_dir()
    )
    if place.is_file():
        place.unlink()
    if len(enrolled) < MANY:
        again = with_many_users(enroller, outside).run(*words, SKIP)
        assert again.status == 0, again.stderr
        assert f"\n{len(enrolled)} entries were left out.\n" in again.stderr
    assert len(list(store.glob("*/tokens"))) == MANY
