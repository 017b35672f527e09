"""Programs without root ask root's service: what it serves, and each of its rules, with a broken copy for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pam_softtoken.login.throttle import FREE_ANSWERS, LOCAL, REMOTE
from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SERVICE_ERR, PAM_SUCCESS
from tests.support.installation import Installation
from tests.support.pam_scene import PROMPT, rewrite_state, wait_until, wrong_code
from tests.support.relay import RelayHost, broken_copy, keep_answered

PLACE = "192.0.2.7"
FROM_PLACE = (f"--item=rhost={PLACE}",)
RELAY, CONFIG = "bridge/relay.py", "config.py"
PERMISSION_DENIED = 6
"""What libpam returns if no module of a stack decides."""


class Scene(NamedTuple):
    """A host, two of its users, and a user that a server runs as."""

    host: RelayHost
    alice: Person
    bob: Person


def test_caller__is_judged_by_the_tokens_that_only_root_can_read(relay_host: RelayHost, alice: Person) -> None:
    host = relay_host
    phone = host.enrol(alice, "--type=hotp")
    code = phone.hotp()
    outcome = host.ask(alice, alice, code)
    assert (outcome.result, outcome.messages) == (PAM_SUCCESS, PROMPT)
    assert host.ask(alice, alice, code).result == PAM_AUTH_ERR
    assert host.root_asks(alice, code).result == PAM_AUTH_ERR
    assert host.root_asks(alice, phone.hotp()).result == PAM_SUCCESS
    assert host.log.reasons() == ["accepted", "replayed", "replayed", "accepted"]
    assert not list(host.mounts.path("/run/softtoken").glob(f"{alice.uid}-*"))


# ---- the rules


def own_account_only(scene: Scene) -> None:
    """A program asks about another user: the same prompt, then a refusal, and nothing is used up."""
    host, alice, bob = scene
    code = host.enrol(bob, "--type=hotp").hotp()
    outcome = host.ask(alice, bob, code)
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert host.log.reasons() == ["relay"]
    assert host.log.outcomes()[0]["user"] == "(unknown)"
    assert host.root_asks(bob, code).result == PAM_SUCCESS


def claimed_account(scene: Scene) -> None:
    """A program asks about bob, and claims that this account is its own."""
    host, alice, bob = scene
    code = host.enrol(bob, "--type=hotp").hotp()
    assert host.lie(alice, bob, code)["result"] == PAM_AUTH_ERR
    assert host.lie(alice, bob, code, name=alice.name, home=str(alice.home))["result"] == PAM_AUTH_ERR


def claimed_caller(scene: Scene) -> None:
    """A program claims that root runs it: its wrong answers still count as its own user's."""
    host, alice, *_ = scene
    phone = host.enrol(alice)
    assert host.lie(alice, alice, wrong_code(phone), caller_uid=0)["result"] == PAM_AUTH_ERR
    assert host.log.outcomes()[0].get("uid") == str(alice.uid)


def listed_peer(scene: Scene) -> None:
    """A server that `relay_for` names asks about others, and nobody else does."""
    host, alice, bob = scene
    host.set_conf(f"relay_for = nobody-of-that-name {bob.name}\n")
    phone = host.enrol(alice, "--type=hotp")
    assert host.ask(bob, alice, phone.hotp(), options=FROM_PLACE).result == PAM_SUCCESS
    assert host.log.outcomes()[0].get("rhost") == PLACE
    host.set_conf("")
    assert host.ask(bob, alice, phone.hotp(), options=FROM_PLACE).result == PAM_AUTH_ERR


def own_wrong_answers(scene: Scene) -> None:
    """A program claims an address: its wrong answers do not make the owner wait who comes from there."""
    host, alice, *_ = scene
    phone = host.enrol(alice, "--type=hotp")
    assert host.root_asks(alice, phone.hotp(), options=FROM_PLACE).result == PAM_SUCCESS
    host.ask(alice, alice, wrong_code(phone), options=FROM_PLACE)
    assert host.wrong_answers(alice) == {LOCAL: 1}


def wrong_answers_of_a_peer(scene: Scene) -> None:
    """The same for a server that `relay_for` names. What it has seen of an address is its own."""
    host, alice, bob = scene
    host.set_conf(f"relay_for = {bob.name}\n")
    phone = host.enrol(alice, "--type=hotp")
    assert host.root_asks(alice, phone.hotp(), options=FROM_PLACE).result == PAM_SUCCESS
    host.ask(bob, alice, wrong_code(phone), options=FROM_PLACE)
    assert host.wrong_answers(alice) == {REMOTE: 1}


def guesses_are_counted(scene: Scene) -> None:
    """A program claims options under which it could guess on."""
    host, alice, *_ = scene
    phone = host.enrol(alice, "--type=hotp")
    guess = wrong_code(phone)
    for option in ("no_throttle", "look_ahead=100", "window=20", "grace=8h", "pin_required", "no_drift"):
        assert host.lie(alice, alice, guess, arguments=[option]) == {"frames": "R", "result": PAM_SERVICE_ERR}, option
        assert any(option.partition("=")[0] in line for line in host.log.ours()), option
    assert set(host.log.reasons()) == {"bad_option"}
    assert host.lie(alice, alice, phone.hotp_at(50))["result"] == PAM_AUTH_ERR


def another_store(scene: Scene) -> None:
    """A program claims another store, another file of options, or another backend: its own ones."""
    host, alice, *_ = scene
    host.enrol(alice)
    code = alice.enrol(host.installed, "--store=%h/.softtoken", "--recovery-codes=0", "--type=hotp").hotp()
    conf = alice.home / "softtoken.conf"
    conf.write_text("no_throttle\n")
    for option in ("store=%h/.softtoken", f"conf={conf}", "backend=/bin/true", "relay_for=root"):
        assert host.lie(alice, alice, code, arguments=[option]) == {"frames": "R", "result": PAM_SERVICE_ERR}, option
    host.set_line("store=%h/.softtoken")
    assert host.ask(alice, alice, code).result == PAM_SERVICE_ERR


def nobody_enrols(scene: Scene) -> None:
    """A program claims that its user is to enrol, in either phase."""
    host, alice, *_ = scene
    assert host.lie(alice, alice, "123456", arguments=["enrol"]) == {"frames": "CR", "result": PAM_AUTH_ERR}
    host.set_conf("enrol\n")
    assert host.lie(alice, alice, "123456") == {"frames": "CR", "result": PAM_AUTH_ERR}
    for arguments in ([], ["enrol"]):
        assert host.lie(alice, alice, kind="M", arguments=arguments) == {"frames": "R", "result": PAM_AUTH_ERR}


def no_grace(scene: Scene) -> None:
    """A program claims the session in which a code was accepted: there is none for such programs."""
    host, alice, *_ = scene
    host.set_conf("grace = 8h\n")
    phone = host.enrol(alice, "--type=hotp")
    assert host.lie(alice, alice, phone.hotp(), session=1, service="=sudo")["result"] == PAM_SUCCESS
    assert host.lie(alice, alice, "", session=1, service="=sudo") == {"frames": "CR", "result": PAM_AUTH_ERR}


def no_confirmation(scene: Scene) -> None:
    """A change waits for a login: one that such a program claims does not confirm it."""
    host, alice, *_ = scene
    changes = host.mounts.path("/var/lib/softtoken/changes/sshd")
    changes.mkdir()
    (changes / "pending").touch()
    phone = host.enrol(alice, "--type=hotp")
    for service in ("=sshd", "=/sshd", "=../changes/sshd"):
        assert host.lie(alice, alice, phone.hotp(), service=service) == {"frames": "CR", "result": PAM_SUCCESS}
    assert [path.name for path in changes.iterdir()] == ["pending"]


def own_log(scene: Scene) -> None:
    """A program that logs nothing, or claims to be sshd, is in the log all the same, as what it is."""
    host, alice, *_ = scene
    phone = host.enrol(alice, "--type=hotp")
    assert host.lie(alice, alice, phone.hotp(), service="=sshd")["frames"] == "CR"
    assert host.lie(alice, alice, wrong_code(phone), service="=sshd:auth): x")["frames"] == "CR"
    lines = host.log.ours()
    assert len(lines) == 2
    right, wrong = lines
    assert right.startswith(f"pam_softtoken(relay/sshd:auth): user={alice.name} uid={alice.uid} token=")
    assert "reason=mismatch" in wrong
    assert "(relay/sshd:auth)" not in wrong
    assert all("softtoken-login[" in line for line in host.log.lines)


def no_guess_is_hidden(scene: Scene) -> None:
    """A program is gone before it is told to wait: its guess is in the log all the same."""
    host, alice, *_ = scene
    guess, now = wrong_code(host.enrol(alice)), int(time.time())
    rewrite_state(alice, lambda present: present.with_wrong(LOCAL, 4 * FREE_ANSWERS, now), host.store_of(alice))
    assert host.lie(alice, alice, guess, gone_after=2) == {"frames": "CC", "result": None}
    wait_until(lambda: all(each.poll() is not None for each in host.served), "the service's processes ended")
    assert host.log.reasons() == ["throttled"]


def no_first_guess_is_hidden(scene: Scene) -> None:
    """A program guesses in place of an earlier module's password, and is gone at the question."""
    host, alice, *_ = scene
    guess = keep_answered(wrong_code(host.enrol(alice)))
    claims = {"arguments": ["try_first_pass"], "password": guess, "gone_after": 2}
    assert host.lie(alice, alice, **claims) == {"frames": "GC", "result": None}
    wait_until(lambda: all(each.poll() is not None for each in host.served), "the service's processes ended")
    assert host.wrong_answers(alice) == {LOCAL: 1}
    assert host.log.reasons() == ["conversation"]
    assert any("password of an earlier module ended with a wrong code" in line for line in host.log.ours())


def no_right_code_is_hidden(scene: Scene) -> None:
    """A program is gone when its code has turned out to be right."""
    host, alice, *_ = scene
    code = host.enrol(alice, "--type=hotp").hotp()
    assert host.lie(alice, alice, code, arguments=["forward_pass"], gone_after=2) == {"frames": "CP", "result": None}
    wait_until(lambda: all(each.poll() is not None for each in host.served), "the service's processes ended")
    assert host.log.reasons() == ["conversation"]
    assert any("the code was correct and cannot be used again" in line for line in host.log.ours())


def root_is_refused(scene: Scene) -> None:
    """A program of root's claims to be a test, which no log need show."""
    host, alice, *_ = scene
    host.enrol(alice)
    assert host.lie(None, alice, "123456", service="=softtoken-x") == {"frames": "R", "result": PAM_AUTH_ERR}


RULES: dict[Callable[[Scene], None], tuple[tuple[str, str, str], ...]] = {
    own_account_only: ((RELAY, "self.account, self.obstacle = None, obstacle", "pass"),),
    claimed_account: ((RELAY, "elif start.uid is not None:", "elif claimed.uid != caller:"),),
    claimed_caller: ((RELAY, 'str(caller), "0", "0"', 'str(claimed.caller_uid), "0", "0"'),),
    listed_peer: (
        (RELAY, "return any(user_lookup.uid_of_name(name) == caller for name in names.split())", "return True"),
        (RELAY, "return any(user_lookup.uid_of_name(name) == caller for name in names.split())", "return False"),
        (RELAY, "start = pinned(claimed, caller, rhost=True)", "pass"),
    ),
    own_wrong_answers: (
        (RELAY, "start = pinned(claimed, caller, rhost=False)", "start = pinned(claimed, caller, rhost=True)"),
    ),
    wrong_answers_of_a_peer: (("login/throttle.py", "    if peer:\n", "    if False:\n"),),
    guesses_are_counted: ((CONFIG, "if not option.relayed and value !=", "if option.relayed and value !="),),
    another_store: ((CONFIG, "        problems.extend(_contradictions(given, from_file))\n", ""),),
    nobody_enrols: ((RELAY, "if claimed.account_phase:", "if False:"),),
    no_grace: ((RELAY, 'str(caller), "0", "0", *items', 'str(caller), "0", str(claimed.session), *items'),),
    no_confirmation: ((RELAY, '"=relay/{service}"', '"={service}"'),),
    own_log: (
        (RELAY, "        self._log(level, line)\n", "        pass\n"),
        (RELAY, '"=relay/{service}"', '"={service}"'),
    ),
    no_guess_is_hidden: ((RELAY, "        if not frame:\n            raise ConversationError\n", ""),),
    no_first_guess_is_hidden: (
        ("login/login.py", 'log.NOTICE, "the password of an', 'log.DEBUG, "the password of an'),
    ),
    no_right_code_is_hidden: (("login/login.py", "note(log.NOTICE, text)", "note(log.DEBUG, text)"),),
    root_is_refused: ((RELAY, "if caller == 0:", "if False:"),),
}
"""Each rule, and copies of the service that break it: a file, what stands there once, and what stands there then."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule__holds(relay_host: RelayHost, make_person: Callable[[], Person], rule: Callable[[Scene], None]) -> None:
    rule(Scene(relay_host, make_person(), make_person()))


@pytest.mark.parametrize(
    ("rule", "fault"),
    [pytest.param(rule, fault, id=f"{rule.__name__}-{number}")
     for rule, faults in RULES.items() for number, fault in enumerate(faults)],
)  # fmt: skip
def test_rule__is_missed_in_a_broken_copy(
    make_relay_host: Callable[..., RelayHost],
    installed: Installation,
    make_person: Callable[[], Person],
    outside: Path,
    rule: Callable[[Scene], None],
    fault: tuple[str, str, str],
) -> None:
    """The control of each rule."""
    copy = broken_copy(installed, outside / "copy", *fault)
    with pytest.raises(AssertionError):
        rule(Scene(make_relay_host(copy), make_person(), make_person()))
