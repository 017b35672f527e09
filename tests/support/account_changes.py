"""A host in a mount namespace. The real usermod, userdel and vipw change its accounts."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import subprocess
from pathlib import Path

from tests.support.account import Person, Phone
from tests.support.client import PERMIT, Service
from tests.support.directory_service import DirectoryService
from tests.support.pam_scene import Pam


class Host:
    """A host with one store for all users.

    Args:
        directory: the host.
        pam: makes its services.
        template: a user's place in a store of root's; or the whole template, if it starts with `%h`.
    """

    def __init__(self, directory: DirectoryService, pam: Pam, template: str) -> None:
        self.directory = directory
        self.pam = pam
        self.by_name = template == "%u"
        self.template = template if template.startswith("%h") else f"{directory.stores}/{template}"
        self.option = f"store={self.template}"
        self.log = directory.log

    def service(self, *options: str) -> Service:
        return self.pam.stack(self.pam.installed.line(self.option, *options) + PERMIT)

    def enrol(self, person: Person, *options: str) -> Phone:
        return self.directory.enrol(person.name, "--period=300", "--store", self.template, *options)

    def admin(self, *words: str) -> str:
        done = self.directory.run("softtoken-admin", *words, "--store", self.template)
        assert done.status == 0, done.stderr
        return done.stdout

    def refused(self, *words: str) -> str:
        done = self.directory.run("softtoken-admin", *words, "--store", self.template)
        assert (done.status, done.stdout) == (1, "")
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("softtoken-admin: error: ")]
        return error

    def place_of(self, person: Person) -> Path:
        if self.template.startswith("%h"):
            return Path(self.template.replace("%h", str(person.home)).replace("%u", person.name))
        return self.directory.stores / (person.name if self.by_name else str(person.uid))

    def owner_of(self, person: Person) -> dict[str, object]:
        owner = json.loads((self.place_of(person) / "tokens").read_text())["account"]
        assert isinstance(owner, dict)
        return owner


def rename(person: Person, name: str) -> None:
    subprocess.run(["usermod", "--login", name, person.name], check=True, capture_output=True)
    person.name = name


def renumber(person: Person, uid: int) -> None:
    subprocess.run(["usermod", "--uid", str(uid), person.name], check=True, capture_output=True)
    person.uid = uid


def rename_and_renumber(person: Person, name: str, uid: int) -> None:
    """Change an account's name and uid with one command."""
    subprocess.run(["usermod", "--login", name, "--uid", str(uid), person.name], check=True, capture_output=True)
    person.name, person.uid = name, uid


_TRIES = 20


def edit_with_vipw(script: str, expected: str) -> None:
    """Change /etc/passwd with vipw, whose editor is sed, and update /etc/shadow with pwconv.

    Args:
        script: for sed.
        expected: the later content of the file. While another test holds the lock, vipw changes nothing.
    """
    # vipw checks the second in which the file was written.
    editor = f'sed -i {shlex.quote(script)} "$0" && touch -d "1 hour ago" "$0"'
    environment = {**os.environ, "VISUAL": f"sh -c {shlex.quote(editor)}"}
    for _ in range(_TRIES):
        done = subprocess.run(["vipw"], check=False, capture_output=True, text=True, env=environment)
        if expected in Path("/etc/passwd").read_text():
            break
    else:
        raise AssertionError(f"vipw has changed nothing: {done.stderr}")
    subprocess.run(["pwconv"], check=True, capture_output=True)


def rename_with_vipw(person: Person, name: str) -> None:
    """Change an account's name without usermod, to any name."""
    edit_with_vipw(f"s/^{person.name}:/{name}:/", f"\n{name}:")
    person.name = name


def renumber_with_vipw(person: Person, uid: int) -> None:
    """Change an account's uid without usermod, so that its files keep the old one."""
    edit_with_vipw(f"s/^\\({person.name}:[^:]*\\):{person.uid}:/\\1:{uid}:/", f":{uid}:")
    person.uid = uid


def move_home(person: Person, *, with_files: bool) -> None:
    """Change an account's home directory, with `usermod -d`, and with or without `-m`."""
    home = person.home.with_name(f"{person.home.name}-new")
    words = ["--move-home"] if with_files else []
    subprocess.run(["usermod", "--home", str(home), *words, person.name], check=True, capture_output=True)
    if not with_files:
        home.mkdir(mode=0o755)
        os.chown(home, person.uid, person.gid)
    person.home = home


def set_home(person: Person, home: str) -> None:
    """Change the entry of an account's home directory, to any path. The directories stay as they are."""
    subprocess.run(["usermod", "--home", home, person.name], check=True, capture_output=True)


def replace(person: Person, *, name: str, uid: int, keeping: bool, home: Path | None = None) -> None:
    """Delete an account and create another one, for another person.

    Args:
        person: the old account; becomes the new one.
        name, uid: of the new one.
        keeping: the old home directory stays.
        home: of the new one, if it is to be a certain one.
    """
    delete(person, keeping=keeping)
    if home is None:
        home = person.home if person.home.exists() and uid == person.uid else person.home.with_name(f"{name}-home")
    add(person, name=name, uid=uid, home=home)


def add(person: Person, *, name: str, uid: int, home: Path) -> None:
    """Create an account with `useradd`, after the person's former one was deleted."""
    words = ["--create-home", "--home-dir", str(home), "--uid", str(uid), "--shell", "/bin/bash", name]
    subprocess.run(["useradd", *words], check=True, capture_output=True)
    home.chmod(0o755)
    person.name, person.uid, person.home = name, uid, home
    person.gid = pwd.getpwnam(name).pw_gid


def delete(person: Person, *, keeping: bool) -> None:
    """Delete an account with `userdel`, with `-r` unless its home directory is kept."""
    words = [] if keeping else ["--remove"]
    subprocess.run(["userdel", *words, person.name], check=True, capture_output=True)
