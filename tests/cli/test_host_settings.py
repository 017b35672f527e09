"""Use `/etc/security/softtoken.conf`: a token must go to the place where the module looks for it.

The machine's own file is not touched: the program runs with another directory in place of /etc/security.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, TOKEN_PROMPT, Enroller
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.pam_scene import Pam

SCRIPT = ("--no-confirm", "--json", "--recovery-codes=0")
CONF = "/etc/security/softtoken.conf"
_INSIDE = 'mount --bind "$1" /etc/security; shift; exec setpriv "$@"'


@pytest.fixture
def on_host_with(enroller: Enroller, outside: Path) -> Callable[..., Enroller]:
    """Return the program on a host with such a configuration file, for a user or for root."""

    def make(conf: str, *, person: Person | None = None, mode: int = 0o644, owner: int = 0) -> Enroller:
        security = outside / "security"
        security.mkdir(exist_ok=True)
        (security / "softtoken.conf").write_text(conf)
        (security / "softtoken.conf").chmod(mode)
        os.chown(security / "softtoken.conf", owner, 0)
        words = [f"--reuid={person.uid}", f"--regid={person.gid}", "--clear-groups"] if person else ["--reuid=0"]
        unshare = ("unshare", "--mount", "--propagation=private")
        return enroller.after(*unshare, "sh", "-euc", _INSIDE, "sh", security, *words)

    return make


def test_conf__token_goes_to_the_store_of_the_host(
    on_host_with: Callable[..., Enroller], alice: Person, outside: Path
) -> None:
    program = on_host_with(f"store = {outside}/%U\n")
    assert program.run(*SCRIPT, "--user", alice.name).status == 0
    assert (outside / str(alice.uid) / "tokens").exists()
    assert not alice.store.exists()


def test_conf__users_of_a_root_held_store_are_referred_to_an_administrator(
    on_host_with: Callable[..., Enroller], alice: Person, outside: Path
) -> None:
    program = on_host_with(f"store = {outside}/%U\n", person=alice)
    mistake = program.run(*SCRIPT).refused()
    assert mistake.error.startswith(f"tokens of this host are kept by root in {outside}/{alice.uid}, and there is no ")
    assert mistake.hint == f"ask an administrator for: softtoken-enroll --user {alice.name}"
    assert not alice.store.exists()


def test_conf__option_wins_over_the_file(on_host_with: Callable[..., Enroller], alice: Person, outside: Path) -> None:
    program = on_host_with(f"store = {outside}/%U\n")
    assert program.run(*SCRIPT, "--user", alice.name, "--store=%h/.softtoken").status == 0
    assert (alice.store / "tokens").exists()
    assert not (outside / str(alice.uid)).exists()


@pytest.mark.parametrize("options", [[], ["--store=%h/.softtoken"]], ids=["from the file", "with --store"])
def test_conf__window_of_the_host_decides_which_code_confirms(
    on_host_with: Callable[..., Enroller], alice: Person, options: list[str]
) -> None:
    program = on_host_with("window = 10\n", person=alice)
    with program.start("--period=300", *options) as dialogue:
        dialogue.expect(CODE_PROMPT)
        dialogue.type(dialogue.phone().totp(-5))
        dialogue.expect(ENTER_PROMPT)


@pytest.mark.parametrize(
    ("conf", "mode", "words"),
    [
        ("stroe = /x/%U\n", 0o644, "unknown option 'stroe'"),
        ("window = 99\n", 0o644, "window takes a whole number from 0 to 20"),
        ("window = 1\n", 0o666, "others own it or can write it"),
        ("x" * 20_000, 0o644, "is larger than 16384 bytes"),
    ],
    ids=["unknown", "out of range", "writable", "too large"],
)
def test_conf__mistake_of_the_administrator_is_named_and_nothing_is_enrolled(
    on_host_with: Callable[..., Enroller], alice: Person, conf: str, mode: int, words: str
) -> None:
    program = on_host_with(conf, person=alice, mode=mode)
    before = listing(alice.home)
    mistake = program.run(*SCRIPT).refused()
    assert CONF in mistake.error
    assert words in mistake.error
    assert "administrator" in mistake.hint
    assert listing(alice.home) == before


def test_conf__of_another_user_is_not_believed(on_host_with: Callable[..., Enroller], alice: Person) -> None:
    program = on_host_with("window = 2\n", owner=alice.uid)
    assert "others own it" in program.run(*SCRIPT, "--user", alice.name).refused().error


def test_conf__required_pin_is_set_with_a_code_alone_and_cannot_be_removed(
    on_host_with: Callable[..., Enroller], alice: Person, installed: Installation, pam: Pam
) -> None:
    phone = alice.enrol(installed, "--type=hotp")
    service = pam.service("pin_required")
    assert service.log_in(alice, phone.hotp_at(0)).result == PAM_AUTH_ERR
    enroller = on_host_with("pin_required\n", person=alice)
    with enroller.start("--pin") as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.hotp())
        for question in ("New PIN", "The same again:"):
            dialogue.expect(question)
            dialogue.type("4711")
        assert dialogue.finish() == 0
    assert service.log_in(alice, "4711" + phone.hotp()).result == PAM_SUCCESS
    assert "host requires a PIN" in enroller.run("--no-pin").refused().error


def test_conf__enrolment_says_that_a_pin_is_wanted(on_host_with: Callable[..., Enroller], alice: Person) -> None:
    done = on_host_with("pin_required\n", person=alice).run("--no-confirm")
    assert "softtoken-enroll --pin sets one." in done.stderr
