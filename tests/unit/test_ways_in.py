"""The model of ways in, with made-up facts: what each service asks of each account, what a change opens and removes."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from pam_softtoken.admin import enable
from pam_softtoken.admin.access import forecast, host_facts, in_force, ways_table
from pam_softtoken.admin.access.authorized_keys import key_line
from pam_softtoken.admin.access.host_facts import sudo_rights
from pam_softtoken.admin.access.pam_judge import Judge, succeeds
from pam_softtoken.admin.access.proofs import (
    CODE,
    ENROLLED,
    KEY,
    NEVER,
    PASSWORD,
    Asking,
    Door,
    Person,
    Ways,
    text_of,
)
from pam_softtoken.admin.access.ways_in import service_ways, sshd_ways, unknowns
from pam_softtoken.admin.access.ways_table import Claim
from pam_softtoken.admin.services import exempt
from pam_softtoken.admin.sshd import server
from pam_softtoken.admin.sshd.config_lines import Directive, read
from pam_softtoken.admin.sshd.match_blocks import MAYBE, NO, YES, Names, Peer, key_of, peers, selects, user_listed
from pam_softtoken.pam import service_edit, service_file
from pam_softtoken.pam.dialect import IN_PIECES
from pam_softtoken.pam.stack import Stack

HOME = "%h/.softtoken"
KEYS = ".ssh/authorized_keys"
UNIX = "auth required pam_unix.so\n"
OURS = "auth required pam_softtoken.so\n"
PEER = Peer("anywhere", "192.0.2.77", "192.0.2.77")
OPEN = {
    "usepam": "yes",
    "kbdinteractiveauthentication": "yes",
    "passwordauthentication": "no",
    "pubkeyauthentication": "yes",
    "authenticationmethods": "any",
    "permitrootlogin": "without-password",
    "authorizedkeysfile": KEYS,
}


def person(name: str = "alice", *, groups: tuple[str, ...] = (), state: str = ENROLLED, **facts: Any) -> Person:
    """Return a person with a password and a key, unless the test says otherwise."""
    usual: dict[str, Any] = {"uid": 1000, "password": YES, "keys": ((KEYS, YES),), "sudo": YES}
    return Person(Names(name, (name, *groups)), **{**usual, "enrolments": ((HOME, state),), **facts})


def read_stack(text: str, service: str) -> Stack:
    return service_file.read(service, lambda path: text if path == f"/etc/pam.d/{service}" else None, IN_PIECES)


def judge(text: str, service: str = "sshd", *, nullok: bool = False, from_password: bool = False) -> Judge:
    """Read a stack."""
    stack = read_stack(text, service)
    asking = Asking(HOME, passes_never=nullok, from_password=from_password)
    return Judge(Door(service, stack.of("auth"), dict.fromkeys(stack.ours, asking)))


def ways_of(found: Ways) -> set[tuple[str, ...]]:
    """Return the certain ways."""
    return {tuple(sorted(proofs)) for proofs, certainty in found if certainty == YES}


def directives(text: str) -> list[Directive]:
    """Read settings of sshd."""
    return read(lambda path: text, lambda pattern: [])


SSHD: dict[str, tuple[dict[str, str], str, dict[str, Any], set[tuple[str, ...]]]] = {
    "password, then code": ({}, UNIX + OURS, {}, {(KEY,), (CODE, PASSWORD)}),
    "password before us": ({}, UNIX, {}, {(KEY,), (PASSWORD,)}),
    "the method password cannot ask for a code": (
        {"kbdinteractiveauthentication": "no", "passwordauthentication": "yes"},
        UNIX + OURS,
        {},
        {(KEY,)},
    ),
    "without PAM": ({"usepam": "no", "passwordauthentication": "yes"}, OURS, {}, {(KEY,), (PASSWORD,)}),
    "key and code": (
        {"authenticationmethods": "publickey,keyboard-interactive:pam"},
        OURS,
        {},
        {(CODE, KEY)},
    ),
    "all three": (
        {"authenticationmethods": "publickey,keyboard-interactive"},
        UNIX + OURS,
        {},
        {(CODE, KEY, PASSWORD)},
    ),
    "root by key": ({}, UNIX + OURS, {"uid": 0}, {(KEY,)}),
    "root's code is not taken": ({"authenticationmethods": "publickey,keyboard-interactive"}, OURS, {"uid": 0}, set()),
    "root's code is taken": (
        {"authenticationmethods": "publickey,keyboard-interactive", "permitrootlogin": "yes"},
        OURS,
        {"uid": 0},
        {(CODE, KEY)},
    ),
    "no root at all": ({"permitrootlogin": "no"}, UNIX, {"uid": 0}, set()),
    "no key": ({}, UNIX, {"keys": ((KEYS, NO),)}, {(PASSWORD,)}),
    "no password": ({}, UNIX, {"password": NO}, {(KEY,)}),
    "the account is over": ({}, UNIX, {"expired": True}, set()),
    "locked without PAM": ({"usepam": "no"}, UNIX, {"locked": True}, set()),
    "not in AllowUsers": ({"allowusers": "bob carol"}, UNIX, {}, set()),
    "in AllowUsers from there": ({"allowusers": "alice@192.0.2.0/24"}, UNIX, {}, {(KEY,), (PASSWORD,)}),
    "in AllowUsers from elsewhere": ({"allowusers": "alice@10.0.0.0/8"}, UNIX, {}, set()),
    "in DenyGroups": ({"denygroups": "al*"}, UNIX, {}, set()),
    "in AllowGroups": ({"allowgroups": "alice"}, UNIX, {}, {(KEY,), (PASSWORD,)}),
    "a method that is off": ({"authenticationmethods": "publickey,password"}, UNIX, {}, set()),
    "never enrolled": ({}, UNIX + OURS, {"state": NEVER}, {(KEY,)}),
}


@pytest.mark.parametrize("name", SSHD)
def test_sshd__ways_in_follow_its_settings_and_pam(name: str) -> None:
    settings, stack, facts, expected = SSHD[name]
    found = sshd_ways(person(**facts), {**OPEN, **settings}, judge(stack), PEER)
    assert ways_of(found) == expected, text_of(found)


def test_sshd__nullok_lets_in_only_users_without_a_token() -> None:
    stack = judge(UNIX + OURS, nullok=True)
    assert ways_of(sshd_ways(person(state=NEVER), OPEN, stack, PEER)) == {(KEY,), (PASSWORD,)}
    assert ways_of(sshd_ways(person(state="before"), OPEN, stack, PEER)) == {(KEY,)}


def test_sshd__unknown_answers_are_shown_as_perhaps() -> None:
    commanded = {**OPEN, "authorizedkeyscommand": "/usr/bin/sss_ssh_authorizedkeys"}
    found = sshd_ways(person(keys=((KEYS, NO),), password=NO), commanded, judge(UNIX), PEER)
    assert text_of(found) == "perhaps key"
    other = judge("auth requisite pam_access.so\n" + UNIX)
    assert text_of(sshd_ways(person(keys=((KEYS, NO),)), OPEN, other, PEER)) == "perhaps password"


def test_unknowns__name_each_answer_that_depends_on_other_programs() -> None:
    text = "auth required pam_access.so\n" + UNIX + "account required pam_time.so\naccount required pam_unix.so\n"
    stack = read_stack(text, "sshd")
    door = Door("sshd", stack.of("auth"), {}, stack.of("account"))
    commanded = {**OPEN, "authorizedkeyscommand": "/usr/bin/x"}
    found = list(unknowns(door, [person(), person("bob", password=MAYBE)], [commanded]))
    assert found == [
        "what pam_access.so says (/etc/pam.d/sshd:1)",
        "which users pam_time.so refuses (/etc/pam.d/sshd:3)",
        "keys that AuthorizedKeysCommand finds",
        "the passwords of accounts that are not in /etc/shadow: bob",
    ]
    assert list(unknowns(judge(UNIX).door, [person()], [OPEN])) == []


GROUPED = "auth\t[success=1 default=ignore]\tpam_succeed_if.so quiet user ingroup robots\n"


def test_exempt__group_is_not_asked_and_all_others_are() -> None:
    stack = judge(UNIX + GROUPED + OURS)
    assert ways_of(sshd_ways(person(groups=("robots",), state=NEVER), OPEN, stack, PEER)) == {(KEY,), (PASSWORD,)}
    assert ways_of(sshd_ways(person(), OPEN, stack, PEER)) == {(KEY,), (CODE, PASSWORD)}


@pytest.mark.parametrize("groups", [("robots",), ("robots", "glass")])
@pytest.mark.parametrize("permit", [False, True])
def test_exempt__only_these_lines_and_ours_are_removed(groups: tuple[str, ...], permit: bool) -> None:
    mine = "auth required pam_permit.so\n" + GROUPED
    lines = exempt.lines_with("auth\trequired\tpam_softtoken.so", groups, permit=permit)
    text = UNIX + lines + "\n" + mine
    stack = read_stack(text, "x")
    assert exempt.groups_of(stack.of("auth")) == list(groups)
    assert exempt.take_out(text, IN_PIECES, lambda path: None) == UNIX + mine


def test_exempt__lines_are_removed_even_after_a_line_without_an_end() -> None:
    before = "account required pam_unix.so\nauth sufficient pam_unix.so"
    stack = read_stack(before, "sshd")
    text = service_edit.put(before, stack, exempt.lines_with(OURS.rstrip(), ("robots",), permit=True), instead=True)
    assert exempt.take_out(text, IN_PIECES, lambda path: None) == before


def test_exempt__hops_land_behind_everything_of_ours() -> None:
    lines = exempt.lines_with("auth\trequired\tpam_softtoken.so", ("robots", "glass"), permit=True)
    stack = judge(lines + "\n")
    for group in ("robots", "glass"):
        assert service_ways(person(groups=(group,)), stack) == frozenset()


def test_sudo__asks_users_that_sudoers_allows_and_does_not_exempt() -> None:
    stack = judge(UNIX + OURS, "sudo")
    assert ways_of(service_ways(person(), stack)) == {(CODE, PASSWORD)}
    assert ways_of(service_ways(person(asked=NO), stack)) == {()}
    assert service_ways(person(sudo=NO), stack) == frozenset()


SUDO = {
    "User alice is not allowed to run sudo on server.\n": (NO, NO, YES),
    "User alice may run the following commands on server:\n    (ALL : ALL) ALL\n": (YES, YES, YES),
    "User alice may run the following commands on server:\n    (root) NOPASSWD: /usr/bin/rsync\n": (MAYBE, YES, NO),
    "User alice may run the following commands on server:\n    (ALL) NOPASSWD: ALL\n": (YES, YES, NO),
    "User alice may run the following commands on server:\n    (bob) ALL\n": (NO, YES, YES),
    "Matching Defaults entries for alice on server:\n    env_reset, targetpw\n\n"
    "User alice may run the following commands on server:\n    (ALL : ALL) ALL\n": (MAYBE, MAYBE, YES),
}


@pytest.mark.parametrize("listed", SUDO)
def test_sudo__rights_are_read_as_sudo_lists_them(listed: str) -> None:
    assert sudo_rights(listed) == SUDO[listed]


def test_su__is_about_the_account_that_one_becomes() -> None:
    stack = judge("auth sufficient pam_rootok.so\n" + UNIX + OURS, "su")
    assert ways_of(service_ways(person(sudo=NO), stack)) == {(CODE, PASSWORD)}


CONDITIONS = {
    "user ingroup robots": YES,
    "user notingroup robots": NO,
    "user = alice": YES,
    "user in bob:alice": YES,
    "uid >= 1000 quiet": YES,
    "uid < 1000": NO,
    "user ingroup robots uid < 1000": NO,
    "service = sshd": YES,
    "tty = tty1": MAYBE,
    "use_uid user = alice": MAYBE,
    "": MAYBE,
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_succeed_if__condition_is_met_unmet_or_not_known(condition: str) -> None:
    assert succeeds(condition.split(), person(groups=("robots",)), "sshd") == CONDITIONS[condition]


KEY_LINES = {
    "ssh-ed25519 AAAA a@b": YES,
    "# ssh-ed25519 AAAA": NO,
    "": NO,
    "ssh-dss AAAA": NO,
    'command="/usr/bin/rrsync -ro /srv",restrict ssh-ed25519 AAAA': YES,
    'from="10.0.0.0/8" ssh-rsa AAAA': MAYBE,
    "cert-authority ssh-rsa AAAA": MAYBE,
    "garbage": NO,
    'command="a \\" b" ecdsa-sha2-nistp256 AAAA': YES,
}


@pytest.mark.parametrize("line", KEY_LINES)
def test_key__line_counts_as_sshd_takes_it(line: str) -> None:
    assert key_line(line) == KEY_LINES[line]


MATCHED = {
    "Match User alice": YES,
    "Match User bob,al*": YES,
    "Match User *,!alice": NO,
    "Match Group robots": YES,
    "Match Group *,!robots": NO,
    "Match Address 10.0.0.0/8": YES,
    "Match Address !10.0.0.0/8,*": NO,
    "Match User alice Address 192.168.0.0/16": NO,
    "Match all": YES,
    "Match LocalPort 22": YES,
    "Match Nonsense x": MAYBE,
}


@pytest.mark.parametrize("condition", MATCHED)
def test_match__selects_the_named_users(condition: str) -> None:
    peer = Peer("", "10.1.2.3", "10.1.2.3")
    assert selects(condition, Names("alice", ("alice", "robots")), peer) == MATCHED[condition]


def test_match__users_with_one_key_are_one_question() -> None:
    found = directives("Match User alice,bob\nX11Forwarding no\nMatch Group !robots,*\nX11Forwarding no\n")
    assert key_of(Names("alice", ()), found) != key_of(Names("bob", ()), found)
    assert key_of(Names("dave", ("staff",)), found) == key_of(Names("erin", ("users",)), found)
    assert key_of(Names("dave", ("staff",)), found) != key_of(Names("erin", ("robots",)), found)


def test_match__each_class_of_addresses_has_a_representative() -> None:
    text = "Match Address 10.0.0.0/8,!10.1.0.0/16\nX11Forwarding no\nMatch Address 192.168.*\nX11Forwarding no\n"
    found = {peer.label: peer.address for peer in peers(directives(text), use_dns=False)}
    assert list(found) == ["10.0.0.0/8", "10.1.0.0/16", "192.168.*", "elsewhere"]
    assert not found["10.0.0.0/8"].startswith("10.1.")
    assert found["10.1.0.0/16"].startswith("10.1.")
    assert found["192.168.*"].startswith("192.168.")


def test_match__each_class_of_combined_conditions_has_a_representative() -> None:
    text = "Match Address 10.0.0.0/8 LocalPort 2222\nX11Forwarding no\nMatch LocalAddress 192.0.2.9\nX11Forwarding no\n"
    found = {(each.address, each.local_port, each.local_address) for each in peers(directives(text), use_dns=False)}
    inside, outside = "10.0.0.7", "192.0.2.77"
    assert found == set(itertools.product((inside, outside), (2222, 22), ("192.0.2.9", "192.0.2.254")))


QUOTED = {
    'Match Group "domain users"': ("alice", "domain users"),
    'Match User "alice"': ("alice", "users"),
    r"Match Group CORP\staff": ("alice", r"CORP\staff"),
    r'Match Group "CORP\domain users",x': ("alice", r"CORP\domain users"),
}


@pytest.mark.parametrize("condition", QUOTED)
def test_match__names_with_spaces_and_backslashes_are_read_as_sshd_reads_them(condition: str) -> None:
    user, group = QUOTED[condition]
    found = directives(f"{condition}\nX11Forwarding no\n")
    assert selects(found[0].condition, Names(user, (group,)), Peer("", "10.1.2.3", "10.1.2.3")) == YES
    assert key_of(Names(user, (group,)), found) != key_of(Names("bob", ("domain", "users", "staff")), found)


def test_match__hosts_of_allowed_users_are_classes_too() -> None:
    assert [each.label for each in peers(directives("AllowUsers bob alice@10.0.0.0/8\n"), use_dns=False)] == [
        "10.0.0.0/8",
        "elsewhere",
    ]
    assert user_listed(["bob", "al*@10.0.0.0/8"], "alice", Peer("", "10.9.9.9", "10.9.9.9")) == YES


def claim(today: Ways, then: Ways, someone: Person | None = None, label: str = "anywhere") -> Claim:
    return Claim(someone or person(), label, today, then)


def exactly(*proofs: set[str]) -> Ways:
    return frozenset((frozenset(each), YES) for each in proofs)


OPENED = {
    "code on top of the password": (exactly({PASSWORD}), exactly({PASSWORD, CODE}), 0),
    "password and code beside the key": (exactly({KEY}), exactly({KEY}, {PASSWORD, CODE}), 1),
    "the code alone": (exactly({PASSWORD}), exactly({CODE}), 1),
    "another key": (exactly({KEY, PASSWORD}), exactly({KEY, CODE}), 1),
    "nothing": (exactly({PASSWORD}), exactly(set()), 1),
    "as it was": (exactly({KEY}, {PASSWORD}), exactly({KEY}), 0),
}


@pytest.mark.parametrize("name", OPENED)
def test_change__opening_of_a_closed_way_in_is_detected(name: str) -> None:
    today, then, expected = OPENED[name]
    assert len(claim(today, then).opened) == expected


def test_change__lockout_is_detected_for_each_class_of_connections() -> None:
    bob = person("bob")
    claims = [
        claim(exactly({KEY}), exactly({KEY, CODE})),
        claim(exactly({KEY}), exactly(), bob, "10.0.0.0/8"),
        claim(exactly({KEY}), exactly({KEY}), bob, "elsewhere"),
        claim(exactly({KEY}), exactly(), person("carol"), "10.0.0.0/8"),
        claim(exactly({KEY}), exactly(), person("carol"), "elsewhere"),
    ]
    assert ways_table.lost(claims) == {"bob": ["10.0.0.0/8"], "carol": []}


def test_change__for_system_accounts_that_may_get_in_does_not_count() -> None:
    perhaps = frozenset({(frozenset({KEY}), MAYBE)})
    assert ways_table.lost([claim(perhaps, exactly(), person("daemon", has_shell=False))]) == {}
    assert ways_table.lost([claim(perhaps, exactly())]) == {"alice": []}


def test_table__has_one_line_for_users_with_the_same_ways_in() -> None:
    names = [f"user{number}" for number in range(7)]
    claims = [claim(exactly({PASSWORD}), exactly({PASSWORD, CODE}), person(name)) for name in names]
    claims += [claim(exactly(), exactly(), person("nobody"))]
    lines = ways_table.table(ways_table.rows(claims), "sshd")
    assert len(lines) == 3
    assert "user0, user1, user2, user3 and 3 more" in lines[2]
    assert lines[2].endswith("password  password and code")


METHODS = {
    ("password", "any"): None,
    ("password", "publickey,password"): "publickey,keyboard-interactive",
    ("password", "publickey,password publickey,keyboard-interactive"): "publickey,keyboard-interactive",
    ("password", "publickey password"): "publickey keyboard-interactive",
    ("publickey", "any"): "publickey,keyboard-interactive",
    ("publickey", "publickey"): "publickey,keyboard-interactive",
    ("publickey", "publickey password hostbased"): "publickey,keyboard-interactive hostbased,keyboard-interactive",
}


@pytest.mark.parametrize(("way", "today"), METHODS)
def test_methods__get_longer_and_never_shorter(way: str, today: str) -> None:
    settings = {**OPEN, "authenticationmethods": today}
    assert server.settings_for(way, settings).get("AuthenticationMethods") == METHODS[way, today]


LISTS = ["any", "publickey", "password", "publickey,password", "keyboard-interactive", "publickey password",
         "publickey,keyboard-interactive", "publickey,password password,publickey keyboard-interactive",
         "hostbased,publickey hostbased"]  # fmt: skip
SWITCHES = ["passwordauthentication", "kbdinteractiveauthentication", "pubkeyauthentication", "hostbasedauthentication"]


@pytest.mark.parametrize("way", ["password", "publickey"])
@pytest.mark.parametrize("methods", LISTS)
def test_change__of_any_sshd_opens_no_way_in_unseen(methods: str, way: str) -> None:
    before, after = judge(UNIX), judge(UNIX + OURS if way == "password" else OURS)
    accepted = 0
    for values in itertools.product(("yes", "no"), repeat=len(SWITCHES)):
        today = {**OPEN, "authenticationmethods": methods, **dict(zip(SWITCHES, values, strict=True))}
        then = {**today, **{name.lower(): value for name, value in server.settings_for(way, today).items()}}
        found = claim(sshd_ways(person(), today, before, PEER), sshd_ways(person(), then, after, PEER))
        if found.opened or not any(CODE in proofs for proofs, _ in found.then):
            continue  # it is refused
        accepted += 1
        for proofs, _ in found.then:
            assert CODE in proofs or (proofs, YES) in found.today or (proofs, MAYBE) in found.today
        assert found.then or not found.today
    assert accepted or way == "publickey" or "password" not in methods


def test_change__key_login_of_locked_accounts_is_detected() -> None:
    """Without PAM, sshd refuses an account with a `!` in the shadow file. With PAM, it accepts the key."""
    today, then = {**OPEN, "usepam": "no"}, OPEN
    views = [
        forecast.View(judge(UNIX), host_facts.Sshd([], [PEER], {((), PEER): each}, each)) for each in (today, then)
    ]
    host = forecast.Host({}, {}, (), [person(locked=True, password=NO)], {})
    plan = SimpleNamespace(way="password", stack=SimpleNamespace(service="sshd"))
    found = forecast.Forecast(plan, [], views[0], views[1], host)  # type: ignore[arg-type]
    with pytest.raises(forecast.ClosedToday, match="would let alice in with key, which is closed today"):
        forecast.require_nothing_opened(found)


def test_status__has_a_line_for_each_effect_of_a_service() -> None:
    names = [f"user{number}" for number in range(4)]
    found = [
        in_force.InForce("sshd", refused=names, let_in=[], exempt={"robots": ["deploy"], "glass": []}),
        in_force.InForce("sudo", refused=[], let_in=["bob"], exempt={}),
        in_force.InForce("su", refused=[], let_in=[], exempt={}),
        in_force.InForce("login", refused=[], let_in=["bob"], exempt={}),
    ]
    assert in_force.lines(found, 2) == [
        "sshd: refused until they enrol (4): user0, user1 and 2 more",
        "sshd: exempt from codes, group robots: deploy",
        "sshd: exempt from codes, group glass: it has no members",
        "sudo, login: let in by nullok only (1): bob",
        "su: asks for a code; nobody is refused for lack of a token",
    ]


@pytest.mark.parametrize("when", [None, "2999-01-01T00:00:00Z", "318857-05-20T17:46:39Z"])
def test_trial__is_not_left_out_for_a_time_that_no_code_can_have(when: str | None) -> None:
    found: Any = SimpleNamespace(host=SimpleNamespace(facts={"alice": {"last_used": when}}))
    assert enable.last_code_ago_s(found, "alice") is None
