"""Show users without a home directory how to get one, or where else their tokens can be."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support.account import Person
from tests.support.admin import Admin
from tests.support.enroller import ENVIRONMENT, Enroller
from tests.support.installation import Installation

ELSEWHERE = "; or let root keep the tokens, with store=/var/lib/softtoken/%U in /etc/security/softtoken.conf"


@pytest.fixture
def homeless(make_person: Callable[[], Person]) -> Iterator[Person]:
    """A user whose home directory was never made."""
    person = make_person()
    aside = person.home.with_name(f"{person.name}-aside")
    person.home.rename(aside)
    yield person
    aside.rename(person.home)


def test_homeless__error_of_the_soft_token_names_another_place_for_the_vault(
    installed: Installation, homeless: Person
) -> None:
    program = Enroller(installed.root / "scripts" / "softtoken")
    uri = b"otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    shell = ("sh", "-c", 'exec 3<<END\ncorrect horse\nEND\n"$@" --passphrase-fd 3', "sh")
    environment = {**ENVIRONMENT, "HOME": str(homeless.home)}
    done = program.after(*shell).run("add", person=homeless, typed=uri, environment=environment)
    assert done.status == 1
    hint = "there is no home directory; set XDG_DATA_HOME to a directory that you can write, for the vault"
    assert done.stderr.endswith(f"softtoken: hint: {hint}\n")


@pytest.mark.parametrize("by_root", [False, True])
def test_homeless__hint_tells_the_user_how_to_get_a_home(enroller: Enroller, homeless: Person, by_root: bool) -> None:
    words = ["--no-confirm", "--json", "--recovery-codes=0"]
    for tool in (words, ["--list"], ["--if-absent", *words]):
        options, person = (["--user", homeless.name, *tool], None) if by_root else (tool, homeless)
        mistake = enroller.run(*options, person=person).refused()
        assert (
            mistake.error
            == f"{homeless.home}: there is no home directory yet, or it is not mounted; nothing was changed"
        )
        who = "run" if by_root else "ask an administrator for"
        assert mistake.hint == f"{who}: mkhomedir_helper {homeless.name}{ELSEWHERE}"


def test_homeless__hint_tells_the_administrator_how_to_make_a_home(installed: Installation, homeless: Person) -> None:
    done = Admin(installed).run("unlock", homeless.name)
    assert done.status == 1
    assert f"hint: run: mkhomedir_helper {homeless.name}{ELSEWHERE}\n" in done.stderr


def test_homeless__home_made_by_mkhomedir_helper_works(enroller: Enroller, homeless: Person) -> None:
    subprocess.run(["/sbin/mkhomedir_helper", homeless.name], check=True)
    assert enroller.run("--no-confirm", "--json", "--recovery-codes=0", person=homeless).status == 0
    subprocess.run(["rm", "-r", homeless.home], check=True)


def test_homeless__account_without_a_home_path_has_an_error_with_the_cure(
    enroller: Enroller, make_person: Callable[[], Person]
) -> None:
    person = make_person()
    subprocess.run(["sed", "-i", f"s|{person.home}|nowhere|", "/etc/passwd"], check=True)
    try:
        mistake = enroller.run("--no-confirm", "--json", person=person).refused()
    finally:
        subprocess.run(["sed", "-i", f"/^{person.name}:/s|nowhere|{person.home}|", "/etc/passwd"], check=True)
    assert mistake.hint == f"ask an administrator for: usermod --home DIRECTORY {person.name}{ELSEWHERE}"
