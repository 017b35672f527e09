"""Root's process and paths that a user controls: what a user plants never borrows root's rights.

What is planted on the way to each file that the command line names leads to another user's file, or to a directory that
is root's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import token_file
from pam_softtoken.otp.recovery_code import RecoverySet
from tests.support.account import Person
from tests.support.enroller import Enroller, Finished
from tests.support.listing import listing
from tests.support.peers import KEY_HEX

KEY = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
URI = f"otpauth://hotp/x:y?secret={KEY}&issuer=x&counter=0\n"
OWN_URI = URI.replace("GEZD", "MEZD")
QUIET = ("--no-confirm", "--recovery-codes=0")
READING = ("key-file", "recovery-hashes", "import", "import-picture", "import-users", "passphrase-file")
WRITING = ("png", "svg", "sheet")
HINT = "copy it to a directory that only root can write, such as /root, or hand it over on stdin: - <FILE"


class Scene:
    """Alice's home with `keys/deep/file`, Bob's with the same. Alice cannot read Bob's home.

    Attributes:
        alice, bob: the two.
        named: what root names on the command line.
        target: what of Bob's stands at the same place.
    """

    def __init__(self, alice: Person, bob: Person) -> None:
        self.alice, self.bob = alice, bob
        self.named, self.target = (person.home / "keys" / "deep" / "file" for person in (alice, bob))
        self.target.parent.mkdir(parents=True)

    def fill(self, option: str, path: Path, key: str) -> None:
        """Write the input file of an option."""
        if option == "import-picture":
            subprocess.run(["qrencode", "--output", path, URI.replace(KEY, key).strip()], check=True)
        else:
            content = {
                "key-file": key,
                "recovery-hashes": json.dumps(token_file.recovery_object(RecoverySet(bytes(16), (bytes(16),)))),
                "import": URI.replace(KEY, key),
                "import-users": f"HOTP {self.alice.name} - {KEY_HEX}\n",
                "passphrase-file": "secret\n",
            }[option]
            path.write_text(content)

    def close(self) -> None:
        """Change the owner of the files in each home to its user, but of no link and hard link outside `keys`."""
        for person in (self.alice, self.bob):
            for path in person.home.rglob("*"):
                if not path.is_symlink() and path.stat().st_nlink == (path.stat().st_nlink if path.is_dir() else 1):
                    os.chown(path, person.uid, person.gid)
            for path in (person.home / "keys").rglob("*"):
                os.chown(path, person.uid, person.gid, follow_symlinks=False)
        os.chown(self.target, self.bob.uid, self.bob.gid)
        self.target.chmod(0o600)
        (self.bob.home / "keys").chmod(0o700)


@pytest.fixture
def scene(alice: Person, make_person: Callable[[], Person]) -> Scene:
    """The two homes, with nothing at Alice's place yet."""
    return Scene(alice, make_person())


def link_file(scene: Scene) -> None:
    """The file is a link."""
    scene.named.parent.mkdir(parents=True)
    scene.named.symlink_to(scene.target)


def link_by_link(scene: Scene) -> None:
    """The file is a link to a link, and that one is seen from where it is."""
    scene.named.parent.mkdir(parents=True)
    scene.named.symlink_to("../link")
    (scene.alice.home / "keys" / "link").symlink_to(os.path.relpath(scene.target, scene.alice.home / "keys"))


def hard_link(scene: Scene) -> None:
    """The file is the other one."""
    scene.named.parent.mkdir(parents=True)
    os.link(scene.target, scene.named)


def link_directory(scene: Scene) -> None:
    """The directory of the file is a link."""
    scene.named.parent.parent.mkdir()
    scene.named.parent.symlink_to(scene.target.parent)


def link_directory_above(scene: Scene) -> None:
    """The directory above that one is a link."""
    scene.named.parent.parent.symlink_to(scene.target.parent.parent)


PLANTED = [link_file, link_by_link, hard_link, link_directory, link_directory_above]


def quiet_for(option: str) -> tuple[str, ...]:
    """Return what keeps a run short and without questions."""
    return QUIET[:1] if option == "recovery-hashes" else QUIET


def words_for(option: str, path: Path | str, own: Path) -> list[str]:
    """Return the command-line options that pass a path to an option."""
    if option == "passphrase-file":
        return [f"--import={own}", f"--passphrase-file={path}"]
    return [f"--{option.partition('-')[0] if option.startswith('import') else option}={path}"]


def run(enroller: Enroller, scene: Scene, option: str, path: Path | str, *more: str, cwd: Path | str = "/") -> Finished:
    """Run it as root for Alice."""
    own = scene.alice.home / "own-uri"
    own.write_text(OWN_URI)
    os.chown(own, scene.alice.uid, scene.alice.gid)
    words = [f"--user={scene.alice.name}", *words_for(option, path, own), *more]
    return enroller.run(*quiet_for(option), *words, cwd=cwd)


@pytest.mark.parametrize("option", READING)
@pytest.mark.parametrize("plant", PLANTED)
def test_root__reads_no_file_of_another_user_through_a_link_of_the_user(
    enroller: Enroller, scene: Scene, plant: Callable[[Scene], None], option: str
) -> None:
    scene.fill(option, scene.target, KEY)
    plant(scene)
    scene.close()
    before = listing(scene.bob.home)
    refused = run(enroller, scene, option, scene.named).refused()
    assert "Permission denied" in refused.error
    assert refused.hint == HINT
    assert listing(scene.bob.home) == before
    assert not scene.alice.store.exists()
    assert not scene.bob.store.exists()


@pytest.mark.parametrize("option", READING)
@pytest.mark.parametrize("plant", [*PLANTED, None])
def test_root__reads_no_file_in_the_home_of_another_user(
    enroller: Enroller, scene: Scene, plant: Callable[[Scene], None] | None, option: str
) -> None:
    """Not even the user's own file: the content would be this user's choice."""
    scene.fill(option, scene.target, KEY)
    if plant is not None:
        plant(scene)
    else:
        scene.named.parent.mkdir(parents=True)
        scene.fill(option, scene.named, KEY)
    scene.close()
    own = scene.alice.home.parent / "uri-of-root"
    own.write_text(OWN_URI)
    before = listing(scene.alice.home), listing(scene.bob.home)
    for user in ([], ["--user=root"], [f"--user={scene.bob.name}"]):
        words = [*quiet_for(option), *user, "--store=/nowhere/%U", *words_for(option, scene.named, own)]
        refused = enroller.run(*words).refused()
        assert f"{scene.alice.home} belongs to uid {scene.alice.uid}" in refused.error
        assert refused.hint == HINT
    assert (listing(scene.alice.home), listing(scene.bob.home)) == before


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "socket"])
@pytest.mark.parametrize("option", READING)
def test_root__waits_for_nothing_that_a_user_planted(enroller: Enroller, scene: Scene, option: str, kind: str) -> None:
    scene.named.parent.mkdir(parents=True)
    scene.target.touch()
    if kind == "pipe":
        os.mkfifo(scene.named)
    elif kind == "device":
        try:
            os.mknod(scene.named, 0o020600, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("needs CAP_MKNOD: it makes a device file")
    elif kind == "directory":
        scene.named.mkdir()
    else:
        os.mknod(scene.named, 0o140600)
    scene.close()
    assert f'cannot read "{scene.named}"' in run(enroller, scene, option, scene.named).refused().error.replace(
        "the key file ", ""
    )
    assert not scene.alice.store.exists()


@pytest.mark.parametrize("option", READING)
def test_root__reads_the_users_own_file_for_the_user(enroller: Enroller, scene: Scene, option: str) -> None:
    scene.named.parent.mkdir(parents=True)
    scene.target.touch()
    scene.fill(option, scene.named, KEY)
    scene.close()
    for path, cwd in (
        (scene.named, "/"),
        ("deep/file", scene.named.parents[1]),
        ("../../keys/deep/./file", scene.named.parent),
    ):
        assert run(enroller, scene, option, path, cwd=cwd).status == 0
        shutil.rmtree(scene.alice.store)


def shapes_of_roots_own(directory: Path) -> dict[str, Path]:
    """List ways to a file in a directory that only root can write; links of root's are followed."""
    (directory / "link").symlink_to("file")
    (directory / "chain").symlink_to(directory / "link")
    (directory / "up").symlink_to("..")
    return {
        "straight": directory / "file",
        "link": directory / "link",
        "link by link": directory / "chain",
        "up and down": directory / "up" / ".." / directory.parent.name / directory.name / "." / "file",
    }


@pytest.mark.parametrize("option", READING)
@pytest.mark.parametrize("owner", ["root", "alice"])
def test_root__reads_files_in_a_directory_of_root(
    enroller: Enroller, scene: Scene, outside: Path, option: str, owner: str
) -> None:
    scene.target.touch()
    scene.fill(option, outside / "file", KEY)
    (outside / "file").chmod(0o600)
    if owner == "alice":  # as cp -p leaves it
        os.chown(outside / "file", scene.alice.uid, scene.alice.gid)
    outside.chmod(0o700)
    for path in shapes_of_roots_own(outside).values():
        assert run(enroller, scene, option, path).status == 0, path
        shutil.rmtree(scene.alice.store)


CHANGEABLE = {
    "file that others can write": ("file", 0, 0o666, "others can write it (mode 0666)"),
    "file of another user": ("file", 65534, 0o600, "belongs to uid 65534"),
    "directory that others can write": (".", 0, 0o777, "others can write it (mode 0777)"),
    "directory that a group can write": (".", 0, 0o775, "others can write it (mode 0775)"),
    "directory of another user": (".", 65534, 0o755, "belongs to uid 65534"),
    "sticky directory": (".", 0, 0o1777, "is in a directory that users other than root can write"),
}


@pytest.mark.parametrize("option", READING)
@pytest.mark.parametrize("case", CHANGEABLE)
def test_root__reads_nothing_that_others_could_have_changed(
    enroller: Enroller, scene: Scene, outside: Path, option: str, case: str
) -> None:
    name, uid, mode, why = CHANGEABLE[case]
    scene.target.touch()
    place = outside / "place"
    place.mkdir()
    scene.fill(option, place / "file", KEY)
    os.chown(place / name, uid, 0)
    (place / name).chmod(mode)
    refused = run(enroller, scene, option, place / "file").refused()
    assert why in refused.error
    assert refused.hint == HINT
    assert not scene.alice.store.exists()


@pytest.fixture
def common() -> Iterator[Path]:
    """A directory in which everybody can make files, as /tmp."""
    path = Path(tempfile.mkdtemp(prefix="common-", dir="/tmp"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def test_root__in_a_shared_directory_trusts_only_directories_of_the_user_and_of_root(
    enroller: Enroller, scene: Scene, common: Path
) -> None:
    alice, bob = scene.alice, scene.bob
    scene.fill("key-file", scene.target, KEY)
    scene.close()
    for name, owner in (("alice", alice.uid), ("bob", bob.uid), ("root", 0)):
        (common / name).write_text(KEY)
        (common / name).chmod(0o600)
        os.chown(common / name, owner, owner)
    (common / "directory").mkdir(0o700)
    (common / "directory" / "file").write_text(KEY)
    (common / "link").symlink_to(scene.target)
    os.chown(common / "link", alice.uid, alice.gid, follow_symlinks=False)
    (common / "roots-link").symlink_to(common / "directory" / "file")
    for name, why in (
        ("bob", "is in a directory that users other than root can write"),
        ("root", "is in a directory that users other than root can write"),
        ("link", "Permission denied"),
        ("roots-link", "is a symbolic link in a directory that others can write"),
    ):
        assert why in run(enroller, scene, "key-file", common / name).refused().error, name
        assert not alice.store.exists()
    for name in ("alice", "directory/file"):
        assert run(enroller, scene, "key-file", common / name).status == 0, name
        shutil.rmtree(alice.store)


@pytest.mark.parametrize("option", ["key-file", "import"])
def test_root__reads_descriptors_that_the_caller_opened(enroller: Enroller, scene: Scene, option: str) -> None:
    """Stdin and other descriptors: the rights to read them were those of the one who opened them."""
    scene.target.touch()
    content = {"key-file": KEY, "import": URI}[option]
    base = [*QUIET, f"--user={scene.alice.name}"]
    for path in ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
        assert enroller.run(*base, f"--{option}={path}", typed=content.encode()).status == 0, path
        shutil.rmtree(scene.alice.store)
    # `<(...)` of the shell is a pipe at /dev/fd/63.
    shell = enroller.after("bash", "-c", f'content=$0; exec "$@" --{option} <(printf %s "$content")', content)
    assert shell.run(*base).status == 0


def test_root__working_directory_of_a_user_or_a_removed_one_is_not_trusted(
    enroller: Enroller, scene: Scene, outside: Path
) -> None:
    scene.fill("key-file", scene.target, KEY)
    link_file(scene)
    scene.close()
    for user, why in (([f"--user={scene.alice.name}"], "Permission denied"), ([], "belongs to uid")):
        done = enroller.run(*QUIET, *user, "--key-file=file", "--store=/nowhere/%U", cwd=scene.named.parent)
        assert why in done.refused().error
    gone = enroller.after("sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$@"', "sh")
    assert "No such file" in gone.run(*QUIET, "--user=root", "--key-file=file", cwd=outside).refused().error


def test_root__link_that_leads_to_itself_ends(enroller: Enroller, scene: Scene, outside: Path) -> None:
    (outside / "loop").symlink_to("loop")
    refused = run(enroller, scene, "key-file", outside / "loop").refused()
    assert "Too many levels of symbolic links" in refused.error


# New files.


def link_to_a_directory_of_roots(scene: Scene, closed: Path) -> None:
    """The directory is a link to one in which only root can make files."""
    scene.named.parent.parent.mkdir()
    scene.named.parent.symlink_to(closed)


def link_above_to_a_directory_of_roots(scene: Scene, closed: Path) -> None:
    """The directory above is such a link."""
    (closed / "deep").mkdir()
    scene.named.parent.parent.symlink_to(closed)


def link_to_the_other_user(scene: Scene, closed: Path) -> None:
    """The directory is a link to another user's."""
    scene.target.unlink()
    scene.named.parent.parent.symlink_to(scene.bob.home / "keys")


def dangling_link(scene: Scene, closed: Path) -> None:
    """The name is a link to where nothing is."""
    scene.named.parent.mkdir(parents=True)
    scene.named.symlink_to(closed / "new")


@pytest.mark.parametrize("option", WRITING)
@pytest.mark.parametrize(
    "plant", [link_to_a_directory_of_roots, link_above_to_a_directory_of_roots, link_to_the_other_user, dangling_link]
)
def test_root__makes_no_file_where_a_users_link_leads(
    enroller: Enroller, scene: Scene, outside: Path, plant: Callable[[Scene, Path], None], option: str
) -> None:
    scene.target.touch()
    scene.close()
    closed = outside / "closed"
    closed.mkdir(0o755)
    plant(scene, closed)
    before = listing(closed), listing(scene.bob.home)
    refused = run(enroller, scene, option, scene.named).refused()
    assert "Permission denied" in refused.error or "is there already" in refused.error
    assert (listing(closed), listing(scene.bob.home)) == before
    assert not scene.alice.store.exists()
    for user in ([], [f"--user={scene.bob.name}"]):
        done = enroller.run(*QUIET, *user, "--store=/nowhere/%U", f"--{option}={scene.named}")
        assert f"{scene.alice.home} belongs to uid {scene.alice.uid}" in done.refused().error
    assert (listing(closed), listing(scene.bob.home)) == before


@pytest.mark.parametrize("option", WRITING)
def test_root__new_file_belongs_to_the_owner_of_its_directory(
    enroller: Enroller, scene: Scene, outside: Path, common: Path, option: str
) -> None:
    alice = scene.alice
    for directory, owner in ((alice.home, alice.uid), (outside, 0), (common, 0)):
        path = directory / "new"
        done = run(enroller, scene, option, path, "--json")
        assert done.status == 0
        assert (path.stat().st_uid, path.stat().st_mode & 0o7777) == (owner, 0o600)
        assert path.stat().st_size > 0
        assert len(str(json.loads(done.stdout)["key"])) == 32
        path.unlink()
        shutil.rmtree(alice.store)


@pytest.mark.parametrize("option", WRITING)
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_root__makes_no_file_where_others_could_take_it_away(
    enroller: Enroller, scene: Scene, outside: Path, option: str, mode: int
) -> None:
    place = outside / "place"
    place.mkdir()
    place.chmod(mode)
    refused = run(enroller, scene, option, place / "new").refused()
    assert f"others can write it (mode {mode:04o})" in refused.error
    assert list(place.iterdir()) == []
    assert not scene.alice.store.exists()


def test_user__can_read_and_create_all_files_that_the_user_may(enroller: Enroller, scene: Scene, outside: Path) -> None:
    """Links, pipes, files of others: without privilege there is nothing to borrow."""
    alice, open_to_all = scene.alice, outside / "key"
    open_to_all.write_text(KEY)
    open_to_all.chmod(0o666)
    (alice.home / "link").symlink_to(open_to_all)
    (alice.home / "elsewhere").symlink_to(alice.home)
    for path in (open_to_all, "link"):
        done = enroller.run(*QUIET, f"--key-file={path}", "--png=elsewhere/new.png", person=alice, cwd=alice.home)
        assert done.status == 0, done.stderr
        shutil.rmtree(alice.store)
        (alice.home / "new.png").unlink()
    shell = enroller.after("bash", "-c", 'exec "$@" --key-file <(printf %s "$0")', KEY)
    assert shell.run(*QUIET, person=alice).status == 0


@pytest.mark.parametrize("link", ["a", "a/b"])
def test_root__makes_no_store_where_a_users_link_leads(
    enroller: Enroller, alice: Person, outside: Path, link: str
) -> None:
    """An administrator who puts root's store below a home gets an error, not directories elsewhere."""
    (alice.home / link).parent.mkdir(exist_ok=True)
    (alice.home / link).symlink_to(outside)
    before = listing(outside), listing(alice.home)
    refused = enroller.run(*QUIET, f"--user={alice.name}", f"--store={alice.home}/a/b/c/%U").refused()
    assert f"{alice.home}: belongs to uid {alice.uid}" in refused.error
    assert (listing(outside), listing(alice.home)) == before
