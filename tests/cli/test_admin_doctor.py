"""Run `softtoken-admin doctor`: it names each fault with its line and a command that repairs it, and nothing else.

Each host is sound except for the fault in the test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.account import Person, resident_of
from tests.support.admin import Admin, succeeded
from tests.support.client import PAM_SUCCESS, Service
from tests.support.doctor import COMMON, REST, PatientHost, steps
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.pam_scene import oathtool, read_state, rewrite_state, steady_step

PERMIT = "auth required pam_permit.so\n"
UNIX = "auth required pam_unix.so\n"
STACKS = {
    "sufficient": ("auth sufficient pam_unix.so\n", "", 1, "get into sshd without a code"),
    "sufficient, and deny behind it": (
        "auth sufficient pam_unix.so\nauth required pam_deny.so\n",
        "",
        1,
        "get into sshd without a code",
    ),
    "a hop over our line": ("auth [success=1 default=die] pam_unix.so\n", PERMIT, 1, "get into sshd without a code"),
    "done": ("auth [success=done default=die] pam_unix.so\n", "", 1, "get into sshd without a code"),
    "in the middle of a block": (
        "auth [success=1 default=ignore] pam_unix.so\n",
        "auth requisite pam_deny.so\nauth required pam_permit.so\n",
        2,
        "nobody gets into sshd",
    ),
    "denied before": ("auth requisite pam_unix.so\nauth requisite pam_deny.so\n", "", 3, "nobody gets into sshd"),
    "an optional password": ("auth optional pam_unix.so\n", "", 1, "a wrong password does not keep anybody out"),
}
"""For each fault: the lines before and after our line, the faulty line, and the report about it."""


@pytest.fixture(scope="module")
def owner(world: Path, installed: Installation) -> Iterator[Person]:
    """An enrolled user. Without one, a host that asks everybody for a code is not sound."""
    with resident_of(world / "homes-doctor") as person:
        person.enrol(installed, "--recovery-codes=0")
        yield person


@pytest.fixture
def sick(world: Path, installed: Installation, owner: Person) -> Iterator[PatientHost]:
    """A sound host that the test can damage."""
    directory = Path(tempfile.mkdtemp(prefix="doctor-", dir=world))
    directory.chmod(0o755)
    yield PatientHost(directory / "host", installed)
    shutil.rmtree(directory)


def test_doctor__finds_nothing_worse_than_notes_on_a_sound_host(sick: PatientHost) -> None:
    found = sick.examine()
    assert found.findings == []
    assert any("PAM services with our line: sshd" in each for each in found.looked_at)
    # A container has no timedatectl, and its clock belongs to the machine.
    assert [each for each in found.not_looked_at if not each.startswith("clock")] == []


def test_doctor__no_service_with_codes_is_reported(sick: PatientHost) -> None:
    sick.set_service("sshd", COMMON)
    assert sick.examine().only("/etc/pam.d", "no service")["severity"] == "note"


def test_doctor__reports_a_service_that_asks_everybody_before_anybody_is_enrolled(
    sick: PatientHost, owner: Person, alice: Person
) -> None:
    sick.set_conf("store = /var/lib/softtoken/%U\n")
    sick.set_service("login", COMMON + sick.line())
    found = sick.examine()
    for service in ("login", "sshd"):
        finding = found.only(
            f"/etc/pam.d/{service}:2", f"{service} asks everybody for a code, and nobody is enrolled: "
        )
        assert {"root", owner.name, alice.name} <= set(re.findall(r"\w+", finding["what"]))
        assert finding["mend"] == f"softtoken-admin disable {service}"
    sick.mend(found.only("/etc/pam.d/login:2", "nobody is enrolled"))
    for settled in ("nullok", "enrol", "required_from=2999-01-01"):
        sick.set_service("sshd", COMMON + sick.line(settled))
        assert not [each for each in sick.examine().findings if "nobody is enrolled" in each["what"]]


@pytest.mark.parametrize(("before", "behind", "number", "words"), STACKS.values(), ids=STACKS)
def test_stack__jump_past_our_line_or_to_nowhere_is_named_and_mended(
    sick: PatientHost, before: str, behind: str, number: int, words: str
) -> None:
    sick.set_service("sshd", before + sick.line() + behind)
    found = sick.examine()
    finding = found.only(f"/etc/pam.d/sshd:{number}", words)
    assert finding["severity"] == "error"
    assert found.status == 1
    assert "1 error" in found.stderr
    assert sick.mend(finding).findings == []


@pytest.mark.parametrize(
    "before",
    [
        UNIX,
        COMMON,
        "auth requisite pam_unix.so\n",
        "auth substack common-auth\n",
        "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\n",
        "auth sufficient pam_rootok.so\n" + UNIX,
        "auth optional pam_faildelay.so delay=1\n" + UNIX,
        # It ends the substack, not the stack.
        "auth substack inner\n",
    ],
)
def test_stack__sound_one_has_no_finding(sick: PatientHost, before: str) -> None:
    sick.set_service("inner", "auth sufficient pam_unix.so\nauth requisite pam_deny.so\n")
    sick.set_service("sshd", before + sick.line())
    assert sick.examine().findings == []


def test_stack__finding_names_the_included_file_and_its_line(sick: PatientHost) -> None:
    sick.set_service("inner", "# ours\nauth sufficient pam_unix.so\n")
    sick.set_service("sshd", "auth include inner\n" + sick.line())
    finding = sick.examine().only("/etc/pam.d/inner:2", "without a code")
    assert finding["line"] == "auth sufficient pam_unix.so"
    assert sick.mend(finding).findings == []


def test_stack__users_exempt_from_codes_are_a_note(sick: PatientHost) -> None:
    selecting = "auth [success=1 default=ignore] pam_succeed_if.so user ingroup backup\n"
    sick.set_service("sshd", UNIX + selecting + sick.line())
    assert sick.examine().only("/etc/pam.d/sshd:2", "pam_succeed_if.so selects")["severity"] == "note"
    assert sick.examine().status in (0, 1)  # 1 if the machine itself has a fault


@pytest.mark.parametrize("control", ["optional", "sufficient", "[default=ignore success=ok]"])
def test_stack__control_that_ignores_a_denial_is_named_and_mended(sick: PatientHost, control: str) -> None:
    sick.set_service("sshd", UNIX + sick.line(control=control))
    finding = sick.examine().only("/etc/pam.d/sshd:2", "a refused code keeps nobody out")
    assert sick.mend(finding).findings == []


def test_stack__sufficient_in_front_of_a_wall_is_a_warning(sick: PatientHost) -> None:
    sick.set_service("sshd", UNIX + sick.line(control="[success=done default=die]") + "auth required pam_env.so\n")
    finding = sick.examine().only("/etc/pam.d/sshd:2", "are skipped")
    assert finding["severity"] == "warning"
    assert sick.mend(finding).findings == []


def test_stack__two_lines_of_ours_are_named_and_mended(sick: PatientHost) -> None:
    sick.set_service("sshd", COMMON + sick.line() + sick.line())
    finding = sick.examine().only("/etc/pam.d/sshd:3", "twice")
    assert sick.mend(finding).findings == []


def test_stack__missing_module_is_named_and_mended(sick: PatientHost) -> None:
    sick.set_service(
        "sshd", "auth required pam_of_yesterday.so\n-auth optional pam_not_needed.so\n" + COMMON + sick.line()
    )
    finding = sick.examine().only("/etc/pam.d/sshd:1", "a module that is not there")
    assert sick.mend(finding).findings == []


def test_stack__our_module_missing_is_an_error(sick: PatientHost) -> None:
    sick.set_service("sshd", COMMON + "auth required /nowhere/pam_softtoken.so\n")
    finding = sick.examine().only("/etc/pam.d/sshd:2", "refuses everybody")
    assert "reinstall" in finding["mend"]


def test_stack__unreadable_line_is_named_and_mended(sick: PatientHost) -> None:
    sick.set_service("sshd", "auht required pam_unix.so\n" + COMMON + sick.line())
    finding = sick.examine().only("/etc/pam.d/sshd:1", "cannot be read as it is meant")
    assert finding["line"] == "auht required pam_unix.so"
    assert sick.mend(finding).findings == []


def test_stack__other_way_into_the_same_program_is_a_warning(sick: PatientHost, owner: Person) -> None:
    sick.set_conf("store = /var/lib/softtoken/%U\n")
    sick.enrol(owner)
    sick.set_service("sudo-i", COMMON)
    sick.set_service("sudo", COMMON + sick.line())
    assert sick.examine().only("/etc/pam.d/sudo-i", "another way")["severity"] == "warning"
    sick.set_service("sudo-i", COMMON + sick.line())
    assert sick.examine().findings == []


SSHD = "UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no\n"
SETTINGS = {
    "the code alone, for some": (
        SSHD + "AuthenticationMethods keyboard-interactive\nMatch User backup\n  UsePAM yes\n",
        "/etc/ssh/sshd_config:6",
        "sshd does not start with this",
    ),
    "no question, for some": (
        SSHD + "AuthenticationMethods keyboard-interactive\nMatch User backup\n  KbdInteractiveAuthentication no\n",
        "/etc/ssh/sshd_config:6",
        '(for users whom "Match User backup" selects)',
    ),
    "no question": (
        "UsePAM yes\nKbdInteractiveAuthentication no\nPubkeyAuthentication no\nPasswordAuthentication no\n",
        "/etc/ssh/sshd_config:2",
        "nobody is asked for a code",
    ),
    "no question, by its old name": (
        "UsePAM yes\nChallengeResponseAuthentication no\nPubkeyAuthentication no\nPasswordAuthentication yes\n",
        "/etc/ssh/sshd_config:2",
        "nobody is asked for a code",
    ),
    "no PAM": ("UsePAM no\n", "/etc/ssh/sshd_config:1", "does not use PAM"),
    "no PAM, by default": ("Port 22\n", "/etc/ssh/sshd_config", "does not use PAM"),
    "password beside it": (
        "UsePAM yes\nPubkeyAuthentication no\nPasswordAuthentication yes\n",
        "/etc/ssh/sshd_config:3",
        "the method password cannot ask for a code",
    ),
    "password in the list": (
        SSHD.replace("Authentication no", "Authentication yes") + "AuthenticationMethods password\n",
        "/etc/ssh/sshd_config:4",
        "the method password cannot ask for a code",
    ),
    "a word that sshd does not know": (
        SSHD + "AuthenticationMethods keyboard-interactive\nPermitRotLogin no\n",
        "/etc/ssh/sshd_config:5",
        "sshd does not start with this",
    ),
}


@pytest.mark.parametrize(("settings", "place", "words"), SETTINGS.values(), ids=SETTINGS)
def test_sshd__setting_is_named_with_its_place_and_mended(
    sick: PatientHost, settings: str, place: str, words: str
) -> None:
    sick.set_sshd(settings)
    sick.mend(sick.examine().only(place, words))


@pytest.fixture
def keyed(sick: PatientHost, alice: Person) -> Person:
    """A user with a public key."""
    (sick.directory / "ssh" / "keys").mkdir(mode=0o755)
    (sick.directory / "ssh" / "keys" / alice.name).write_text("ssh-ed25519 AAAAC3Nza alice\n")
    return alice


ANY = SSHD + "AuthorizedKeysFile /etc/ssh/keys/%u\n"


@pytest.mark.parametrize("methods", ["", "AuthenticationMethods publickey keyboard-interactive\n"])
def test_sshd__key_beside_the_password_is_a_note_with_the_cost_of_a_change(
    sick: PatientHost, keyed: Person, owner: Person, methods: str
) -> None:
    sick.set_sshd(ANY + methods)
    finding = sick.examine().only("/etc/pam.d/sshd:2", f"public-key logins skip the code: {keyed.name};")
    assert finding["severity"] == "note"
    assert f"does not let in those who have no key: {owner.name}" in finding["what"]
    assert finding["mend"].endswith("enable sshd --with publickey")


def test_sshd__login_by_key_alone_is_an_error_if_pam_asks_only_for_the_code(sick: PatientHost, keyed: Person) -> None:
    sick.set_service("sshd", sick.line())
    sick.set_sshd(ANY + "AuthenticationMethods publickey\n")
    finding = sick.examine().only("/etc/ssh/sshd_config:5", "a public key skips PAM")
    assert finding["severity"] == "error"
    assert f"the change below takes a way in from {keyed.name}" in finding["what"]
    assert sick.mend(finding).worse_than_notes() == []


def test_sshd__exempt_group_is_a_note_and_nothing_more(sick: PatientHost, keyed: Person) -> None:
    hop = f"auth [success=1 default=ignore] pam_succeed_if.so quiet user ingroup {keyed.name}\n"
    sick.set_service("sshd", COMMON + hop + sick.line())
    sick.set_sshd(ANY + f"Match Group {keyed.name}\n  AuthenticationMethods publickey\n")
    (finding,) = sick.examine().findings
    assert finding["severity"] == "note"
    assert f"the group {keyed.name} is exempt from codes at sshd: {keyed.name};" in finding["what"]


def test_sshd__mends_together_make_it_sound(sick: PatientHost) -> None:
    sick.set_sshd("Include /etc/ssh/sshd_config.d/*.conf\nUsePAM no\nKbdInteractiveAuthentication no\n")
    found = sick.examine()
    for _ in range(5):
        if found.findings:
            found = sick.mend(found.findings[0])
    assert found.findings == []


def test_sshd__drop_in_is_named_and_the_first_value_counts(sick: PatientHost) -> None:
    sick.set_sshd("KbdInteractiveAuthentication no\n", "sshd_config.d/10-cloud.conf")
    finding = sick.examine().only("/etc/ssh/sshd_config.d/10-cloud.conf:1", "AuthenticationMethods names")
    assert sick.mend(finding).findings == []


def test_sshd__code_alone_is_named_and_mended(sick: PatientHost) -> None:
    sick.set_service("sshd", sick.line())
    finding = sick.examine().only("/etc/ssh/sshd_config:5", "the code alone lets people in")
    assert sick.mend(finding).findings == []


@pytest.mark.parametrize("methods", ["publickey,keyboard-interactive", "keyboard-interactive:pam"])
def test_sshd__sound_ways_in_have_no_finding(sick: PatientHost, methods: str) -> None:
    sick.set_sshd(SSHD + f"AuthenticationMethods {methods}\n")
    assert sick.examine().findings == []


def test_sshd__password_and_code_in_one_answer_have_no_finding(sick: PatientHost) -> None:
    sick.set_sshd("UsePAM yes\nKbdInteractiveAuthentication no\nPasswordAuthentication yes\nPubkeyAuthentication no\n")
    sick.set_service("sshd", sick.line("forward_pass") + "auth required pam_unix.so use_first_pass\n")
    assert sick.examine().findings == []


def test_sshd__without_our_line_its_settings_are_its_own_affair(sick: PatientHost) -> None:
    sick.set_service("sshd", COMMON)
    sick.set_service("login", COMMON + sick.line())
    sick.set_sshd("UsePAM no\n")
    assert sick.examine().findings == []


WRONG_OPTIONS = {
    "unknown": ("nulok", "unknown option 'nulok'"),
    "out of range": ("window=99", "window takes a whole number"),
    "with brackets": ("prompt=" + "x " * 70 + "x", "prompt takes 1 to 128"),
    "no value": ("grace", "grace needs a value"),
}


@pytest.mark.parametrize(("option", "words"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_option__wrong_one_is_named_and_mended(sick: PatientHost, option: str, words: str) -> None:
    sick.set_service("sshd", COMMON + sick.line(option, "echo"))
    finding = sick.examine().only("/etc/pam.d/sshd:2", words)
    assert sick.mend(finding).findings == []
    assert (sick.directory / "pam.d" / "sshd").read_text().splitlines()[1].endswith(" echo")


def test_option__in_the_file_is_named_and_mended(sick: PatientHost) -> None:
    sick.set_conf("# ours\nwindow = two\n\ncolour = red\n")
    assert sick.examine().only("/etc/security/softtoken.conf:2", "window takes")["line"] == "window = two"
    sick.mend(sick.examine().only("/etc/security/softtoken.conf:4", "unknown option 'colour'"))


def test_option__file_that_others_can_write_is_named_and_mended(sick: PatientHost) -> None:
    sick.set_conf("window = 2\n")
    (sick.directory / "security" / "softtoken.conf").chmod(0o666)
    found = sick.examine()
    assert {each["place"] for each in found.findings} == {"/etc/security/softtoken.conf"}
    assert sick.mend(found.findings[0]).findings == []


@pytest.mark.parametrize(("option", "severity", "words"), [
    ("debug", "note", "each step of each login is logged"),
    ("no_throttle", "warning", "nothing slows down"),
])  # fmt: skip
@pytest.mark.parametrize("in_file", [False, True], ids=["in the line", "in the file"])
def test_option__left_on_is_named_and_mended(
    sick: PatientHost, option: str, severity: str, words: str, in_file: bool
) -> None:
    sick.set_service("sshd", COMMON + sick.line(*([] if in_file else [option])))
    sick.set_conf(f"{option} = yes\n" if in_file else "")
    place = "/etc/security/softtoken.conf:1" if in_file else "/etc/pam.d/sshd:2"
    finding = sick.examine().only(place, words)
    assert finding["severity"] == severity
    assert sick.mend(finding).findings == []


@pytest.mark.parametrize("in_file", [False, True], ids=["in the line", "in the file"])
def test_option__required_from_in_the_past_is_named_and_mended(sick: PatientHost, in_file: bool) -> None:
    sick.set_service("sshd", COMMON + sick.line(*([] if in_file else ["required_from=2026-01-15"])))
    sick.set_conf("required_from = 2026-01-15\n" if in_file else "")
    place = "/etc/security/softtoken.conf:1" if in_file else "/etc/pam.d/sshd:2"
    finding = sick.examine().only(place, "since 2026-01-15 everybody is asked for a code")
    assert finding["severity"] == "note"
    assert sick.mend(finding).findings == []


def test_option__required_from_in_the_future_has_no_finding(sick: PatientHost) -> None:
    sick.set_service("sshd", COMMON + sick.line("required_from=2999-01-15"))
    assert sick.examine().findings == []


def test_option__enrol_without_its_account_line_is_named_and_mended(sick: PatientHost) -> None:
    sick.set_service("sshd", COMMON + sick.line("enrol"))
    finding = sick.examine().only("/etc/pam.d/sshd:2", "sshd lacks our line of the type account")
    assert finding["severity"] == "error"
    assert sick.mend(finding).findings == []


def test_enrol__account_line_that_skips_ours_is_reported(sick: PatientHost) -> None:
    ours = sick.line("enrol")
    sick.set_service("sshd", COMMON + ours + "@include common-account\naccount" + ours.removeprefix("auth"))
    found = sick.examine().only("/etc/pam.d/sshd:2", "nobody can enrol while logging in: pam_unix.so could pass by")
    assert found["severity"] == "error"
    sick.set_service("sshd", COMMON + ours + "account" + ours.removeprefix("auth") + "@include common-account\n")
    assert sick.examine().findings == []


def test_option__nullok_finding_names_the_users_without_a_token(sick: PatientHost, alice: Person) -> None:
    sick.set_service("sshd", COMMON + sick.line("nullok"))
    finding = sick.examine().only("/etc/pam.d/sshd:2", "who have never enrolled")
    assert finding["severity"] == "note"
    assert alice.name in finding["what"]


def test_option__unneeded_nullok_is_named_and_mended(sick: PatientHost, installed: Installation, alice: Person) -> None:
    # In a store where all users who can log in here are enrolled.
    store = sick.directory / "store"
    store.mkdir(mode=0o711)
    store.chmod(0o711)
    template = f"store={store}/%u"
    program = installed.root / "scripts" / "softtoken-admin"
    listed = json.loads(sick.run(program, "status", "--json").stdout)["users"]
    for user in [each["user"] for each in listed]:
        sick.run(installed.enroll, f"--user={user}", "--no-confirm", "--json", f"--{template}", "--recovery-codes=0")
    sick.set_service("sshd", COMMON + sick.line("nullok", template))
    finding = sick.examine().only("/etc/pam.d/sshd:2", "everybody who can log in is enrolled")
    assert finding["severity"] == "warning"
    assert sick.mend(finding).findings == []


def test_option__store_in_the_home_directory_behind_sudo_is_a_note(sick: PatientHost, owner: Person) -> None:
    for service in ("sudo", "sudo-i"):
        sick.set_service(service, COMMON + sick.line())
    found = sick.examine()
    assert found.only("/etc/pam.d/sudo:2", "can read the key")["severity"] == "note"
    assert found.worse_than_notes() == []
    sick.set_conf("store = /var/lib/softtoken/%U\n")
    sick.enrol(owner)
    assert sick.examine().findings == []


def test_users__home_that_others_can_write_is_named_and_mended(sick: PatientHost, alice: Person) -> None:
    alice.home.chmod(0o775)
    finding = sick.examine().only(str(alice.home), "others can write it (mode 0775)")
    assert finding["severity"] == "warning"
    assert sick.mend(finding).findings == []


def test_users__open_token_file_is_named_and_mended(sick: PatientHost, installed: Installation, alice: Person) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    (alice.store / "tokens").chmod(0o644)
    finding = sick.examine().only(str(alice.store / "tokens"), "is open to others")
    assert sick.mend(finding).findings == []


@pytest.mark.lockout(
    "the doctor finds a record from the future",
    shows="ahead of this machine's clock",
    cure="softtoken-admin reset-state USER",
)
def test_users__record_from_the_future_is_named_and_mended(
    sick: PatientHost, installed: Installation, alice: Person, make_service: Callable[[str], Service]
) -> None:
    phone = alice.enrol(installed, "--recovery-codes=0", "--period=300")
    step = steady_step(300)
    (name,) = read_state(alice).last
    rewrite_state(alice, lambda present: present.with_last(name, step + 4 * 288))
    finding = sick.examine().only(f"{alice.store}/state", f"the last code of {alice.name}, or the enrolment, is")
    assert (finding["severity"], finding["mend"]) == ("warning", f"date; softtoken-admin reset-state {alice.name}")
    assert "4 d ahead of this machine's clock" in finding["what"]
    assert "if the clock is wrong now, set it" in finding["what"]
    service = make_service(installed.line("window=3"))
    assert service.log_in(alice, oathtool(phone, step)[0]).result != PAM_SUCCESS
    assert succeeded(Admin(installed).run("reset-state", alice.name, "--yes")) == ""
    assert sick.examine().findings == []
    assert service.log_in(alice, oathtool(phone, step + 2)[0]).result == PAM_SUCCESS


def _swap_the_file(alice: Person, victim: Path) -> None:
    (alice.store / "tokens").unlink()
    (alice.store / "tokens").symlink_to(victim / "tokens")


def _swap_the_directory(alice: Person, victim: Path) -> None:
    alice.store.rename(alice.home / "away")
    alice.store.symlink_to(victim)


@pytest.mark.parametrize("swap", [_swap_the_file, _swap_the_directory])
@pytest.mark.parametrize("illness", ["is open to others", "belongs to uid"])
def test_mend__command_follows_no_link_that_the_user_creates_before_root_runs_it(
    sick: PatientHost,
    installed: Installation,
    alice: Person,
    outside: Path,
    swap: Callable[[Person, Path], None],
    illness: str,
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    if illness == "belongs to uid":
        os.chown(alice.store / "tokens", 65534, 65534)
    (alice.store / "tokens").chmod(0o644)
    finding = sick.examine().only(str(alice.store / "tokens"), illness)
    (outside / "victim").mkdir(mode=0o755)
    (outside / "victim" / "tokens").write_text("somebody else's")
    (outside / "victim" / "tokens").chmod(0o644)
    before = listing(outside)
    swap(alice, outside / "victim")
    sick.run("sh", "-c", finding["mend"])
    assert listing(outside) == before


def test_users__token_file_of_another_owner_is_named_and_mended(
    sick: PatientHost, installed: Installation, alice: Person
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    os.chown(alice.store / "tokens", 0, 0)
    (alice.store / "tokens").chmod(0o644)
    finding = sick.examine().only(str(alice.store / "tokens"), "belongs to uid 0")
    assert sick.mend(finding).findings == []


def test_files__state_that_others_can_write_is_named_and_mended(sick: PatientHost) -> None:
    (sick.directory / "state").chmod(0o777)
    finding = sick.examine().only("/var/lib/softtoken", "users other than root can write it")
    assert finding["severity"] == "error"
    assert sick.mend(finding).findings == []


def test_files__store_of_root_that_others_own_is_named_and_mended(
    sick: PatientHost, owner: Person, alice: Person
) -> None:
    sick.set_conf("store = /var/lib/softtoken/%U\n")
    sick.enrol(owner)
    store = sick.directory / "state" / str(alice.uid)
    store.mkdir(mode=0o700)
    assert sick.examine().findings == []
    os.chown(store, alice.uid, alice.gid)
    found = sick.examine()
    assert sick.mend(found.only(f"/var/lib/softtoken/{alice.uid}", "somebody other than root owns it")).findings == []


@pytest.fixture
def own_copy(sick: PatientHost) -> Installation:
    """A copy of the product that the test can damage, run by the host's sshd."""
    root = sick.directory.parent / "copy"
    shutil.copytree(sick.installed.root, root, symlinks=True)
    for compiled in (root / "pam_softtoken").rglob("__pycache__"):
        shutil.rmtree(compiled)
    copy = Installation(root)
    sick.run("python3", "-m", "compileall", "-q", copy.package)
    sick.set_service("sshd", COMMON + f"auth required {copy.bridge} backend={copy.backend}\n")
    return copy


def test_files__package_that_others_can_write_is_named_and_mended(sick: PatientHost, own_copy: Installation) -> None:
    assert sick.examine().findings == []
    (own_copy.package / "login" / "policy.py").chmod(0o666)
    finding = sick.examine().only(str(own_copy.package), "policy.py")
    assert sick.mend(finding).findings == []


def test_files__uncompiled_module_is_named_and_mended(sick: PatientHost, own_copy: Installation) -> None:
    source = own_copy.package / "login" / "policy.py"
    source.write_text(source.read_text() + "# changed\n")
    finding = sick.examine().only(str(own_copy.package), "policy.py")
    assert finding["severity"] == "warning"
    assert sick.mend(finding).findings == []


def test_files__directory_of_another_owner_above_the_backend_is_named_and_mended(
    sick: PatientHost, own_copy: Installation, alice: Person
) -> None:
    os.chown(own_copy.root, alice.uid, 0)
    finding = sick.examine().only(str(own_copy.root), f"it belongs to uid {alice.uid}")
    after = sick.mend(finding)
    assert after.findings == []


def test_backend__missing_one_is_named(sick: PatientHost, own_copy: Installation) -> None:
    own_copy.backend.unlink()
    found = sick.examine()
    assert found.only(str(own_copy.backend), "the backend is not there")["severity"] == "error"
    assert found.only("/etc/pam.d/sshd:2", "does not ask for a code")["severity"] == "error"


def test_backend__that_does_not_start_is_named(sick: PatientHost, own_copy: Installation) -> None:
    (own_copy.package / "login" / "policy.py").write_text("this is no Python\n")
    sick.run("python3", "-m", "compileall", "-q", own_copy.package)
    assert sick.examine().only("/etc/pam.d/sshd:2", "does not ask for a code")["severity"] == "error"


def test_changes__that_wait_are_named(sick: PatientHost) -> None:
    change = sick.directory / "state" / "changes" / "sshd"
    change.mkdir(parents=True)
    assert sick.examine().findings == []
    (change / "pending").touch()
    finding = sick.examine().only("/var/lib/softtoken/changes/sshd", "not confirmed")
    assert finding["mend"] == "softtoken-admin confirm sshd"


def spoil(path: Path, how: str) -> None:
    """Replace a file with garbage."""
    path.unlink(missing_ok=True)
    if how == "a FIFO":
        os.mkfifo(path)
    elif how == "a directory":
        path.mkdir()
    elif how == "a link to itself":
        path.symlink_to(path.name)
    elif how == "bytes":
        path.write_bytes(os.urandom(4096) + b"\0\n@include \xff\nauth [ pam_unix.so\n")
    elif how == "huge":
        path.write_bytes(b"auth required pam_permit.so\n" * 100_000)
    elif how == "one long line":
        path.write_bytes(b"auth required pam_permit.so " + b"x" * 5_000_000)
    else:
        path.write_text(f"@include {path.name}\n" * 20 + f"Include {path}\n" * 20)


@pytest.mark.sampled(0.35)
@pytest.mark.parametrize(
    "how", ["a FIFO", "a directory", "a link to itself", "bytes", "huge", "one long line", "it includes itself"]
)
@pytest.mark.parametrize(
    "name", ["pam.d/sshd", "pam.d/common-auth", "ssh/sshd_config", "security/softtoken.conf", "state/enrolled"]
)
def test_doctor__survives_garbage_in_any_file(sick: PatientHost, name: str, how: str) -> None:
    sick.set_service("login", UNIX + sick.line())
    spoil(sick.directory / name, how)
    found = sick.examine()
    assert not [each for each in found.not_looked_at if "the check ended" in each or "took longer" in each], found
    assert any("login" in each for each in found.looked_at)


def test_doctor__changes_nothing(sick: PatientHost) -> None:
    sick.set_service("sshd", "auth sufficient pam_unix.so\n" + sick.line("nullok"))

    def seen() -> list[Any]:
        paths = sorted(sick.directory.rglob("*"))
        return [(path, path.lstat().st_mtime_ns, path.lstat().st_mode) for path in paths]

    before = seen()
    sick.examine()
    assert seen() == before


def test_doctor__text_has_place_line_and_the_line_as_it_should_be(sick: PatientHost) -> None:
    sick.set_service("sshd", "auth sufficient pam_unix.so\n" + sick.line())
    done = sick.run(sick.installed.root / "scripts" / "softtoken-admin", "doctor")
    assert done.returncode == 1
    assert "Looked at" not in done.stdout
    lines = sick.run(sick.installed.root / "scripts" / "softtoken-admin", "doctor", "--verbose").stdout.splitlines()
    assert any(line.startswith("Looked at: ") for line in lines)
    start = lines.index("PAM services:")
    assert lines[start + 1].startswith("  error: /etc/pam.d/sshd:1: ")
    assert lines[start + 2] == "    | auth sufficient pam_unix.so"
    assert lines[start + 3] == "    # in /etc/pam.d/sshd, line 1, write: auth requisite pam_unix.so"
    assert "softtoken-admin: error: found 1 error" in done.stderr


def test_doctor__changes_that_are_made_from_the_top_down_open_nothing(sick: PatientHost) -> None:
    """The second change would overwrite our line, if its number were from before the first one."""
    sick.set_service("sshd", "auth required pam_no_such.so\nauth sufficient pam_unix.so\n" + sick.line("debug"))
    for _ in range(3):
        text = sick.run(sick.installed.root / "scripts" / "softtoken-admin", "doctor").stdout
        for change in re.findall(r"^    # (in /.*)", text, re.MULTILINE):
            for step in steps(change):
                assert sick.run(*step).returncode == 0
    assert not sick.examine().worse_than_notes()
    whole = "auth requisite pam_unix.so\n" + sick.line() + REST
    assert (sick.directory / "pam.d" / "sshd").read_text() == whole


def test_doctor__needs_root(sick: PatientHost, alice: Person) -> None:
    program = sick.installed.root / "scripts" / "softtoken-admin"
    done = sick.run("setpriv", f"--reuid={alice.uid}", "--clear-groups", program, "doctor")
    assert done.returncode == 1
    assert "hint: sudo softtoken-admin doctor" in done.stderr
    assert sick.run(program, "doctor", "--nonsense").returncode == 2


@pytest.mark.parametrize("source", ["sss", "ldap", "winbind"])
def test_store__by_name_with_a_directory_service_is_reported(sick: PatientHost, source: str) -> None:
    sick.set_service("sshd", COMMON + sick.line("store=/var/lib/softtoken/%u"))
    assert not any("users come from" in each["what"] for each in sick.examine().findings)
    sick.set_nsswitch(f"passwd: files {source} # the staff\ngroup: files\n")
    found = sick.examine()
    assert found.only("/etc/pam.d/sshd:2", f"users come from {source}")["severity"] == "warning"
    sick.set_service("sshd", COMMON + sick.line("store=/var/lib/softtoken/%U"))
    assert not any("users come from" in each["what"] for each in sick.examine().findings)


@pytest.mark.parametrize("module", ["pam_mkhomedir.so", "pam_oddjob_mkhomedir.so"])
def test_store__in_homes_created_by_a_later_line_is_reported(sick: PatientHost, module: str) -> None:
    line = f"session optional {module} umask=0077\n"
    sick.set_service("sshd", COMMON + sick.line() + line)
    found = sick.examine()
    assert found.only("/etc/pam.d/sshd:3", f"{module} makes a home directory")["severity"] == "warning"
    sick.set_service("sshd", COMMON + sick.line("store=/var/lib/softtoken/%U") + line)
    assert not any("makes a home directory" in each["what"] for each in sick.examine().findings)


SERVER = "softtoken-server"
"""A service with a unit of systemd, as PostgreSQL has one."""


@pytest.fixture
def unit() -> Iterator[Callable[..., None]]:
    """Return a function that writes the service's unit, and lines for a drop-in file."""
    system = Path("/etc/systemd/system")
    system.mkdir(parents=True, exist_ok=True)
    file, drop_in = system / f"{SERVER}@.service", system / f"{SERVER}@.service.d"

    def write(text: str, added: str = "") -> None:
        file.write_text(text)
        drop_in.mkdir(exist_ok=True)
        (drop_in / "10-user.conf").write_text(added)

    yield write
    file.unlink()
    shutil.rmtree(drop_in)


def test_service_user__that_cannot_read_tokens_is_named_and_mended(
    sick: PatientHost, owner: Person, unit: Callable[..., None]
) -> None:
    sick.set_service(SERVER, COMMON + sick.line())
    unit(f"[Unit]\nUser=nobody\n[Service]\nUser = {owner.name}\nExecStart=/bin/true\n")
    finding = sick.examine().only(f"/etc/pam.d/{SERVER}:2", f"{SERVER} runs as {owner.name} ({SERVER}@.service)")
    assert finding["severity"] == "warning"
    sick.mend(finding)
    assert sick.line() not in (sick.directory / "pam.d" / SERVER).read_text()


@pytest.mark.parametrize(
    ("text", "added", "is_named"),
    [
        ("[Service]\nUser=nobody\n", "", True),
        ("[Service]\nExecStart=/bin/true\n", "[Service]\nUser=nobody\n", True),
        ("[Service]\nUser=65534\n", "", True),
        ("[Service]\nUser=nobody\n", "[Service]\nUser=root\n", False),
        ("[Service]\nUser=nobody\n", "[Service]\nUser=\n", False),
        ("[Service]\n#User=nobody\n", "", False),
        ("[Service]\nUser=%i\n", "", False),
        ("[Service]\nUser=no-such-user-here\n", "", False),
    ],
)
def test_service_user__is_read_as_systemd_reads_it(
    sick: PatientHost, unit: Callable[..., None], text: str, added: str, is_named: bool
) -> None:
    sick.set_service(SERVER, COMMON + sick.line())
    unit(text, added)
    assert any("cannot read tokens of others" in each["what"] for each in sick.examine().findings) is is_named


def test_service_user__does_not_matter_where_a_helper_asks_as_root(sick: PatientHost) -> None:
    """Without our line, Cockpit would ask for the password alone, though its codes work."""
    sick.set_service("cockpit", COMMON + sick.line())
    file = Path("/etc/systemd/system/cockpit.service")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[Service]\nUser=nobody\n")
    try:
        found = sick.examine()
    finally:
        file.unlink()
    assert not any("cannot read tokens of others" in each["what"] for each in found.findings)


HOMES = "session optional pam_mkhomedir.so\n"
ELSEWHERE = "store=/var/lib/softtoken/%U"


@pytest.fixture
def homeless(make_person: Callable[[], Person]) -> Iterator[Person]:
    """A user whose home directory was never made."""
    person = make_person()
    shutil.rmtree(person.home)
    yield person
    person.home.mkdir()
    shutil.chown(person.home, person.name)


@pytest.mark.parametrize(("option", "passes"), [("nullok", True), ("enrol", False), ("window=1", False)])
def test_homeless__users_are_named_by_doctor_status_and_enable_with_what_helps(
    sick: PatientHost, homeless: Person, option: str, passes: bool
) -> None:
    sick.set_service("sshd", COMMON + sick.line(option) + HOMES)
    found = sick.examine()
    finding = found.only("/etc/pam.d/sshd:2", "there is no home directory yet, so nobody can enrol these users")
    assert finding["severity"] == "note"
    assert homeless.name in finding["what"]
    assert ELSEWHERE in finding["what"]
    told = found.only("/etc/pam.d/sshd:3", "pam_mkhomedir.so makes a home directory after the code was asked for")[
        "what"
    ]
    assert ("their first login needs no code" in told) is passes
    assert ELSEWHERE in told
    if option == "nullok":
        waiting = found.only("/etc/pam.d/sshd:2", "users who have never enrolled get into sshd without a code")
        assert homeless.name in waiting["what"]
    status = sick.run(sick.installed.root / "scripts" / "softtoken-admin", "status", homeless.name).stdout
    assert f"{homeless.home}: there is no home directory yet, or it is not mounted" in status
    assert f"sshd: no home directory yet for the token (1): {homeless.name}; {ELSEWHERE}" in status
    assert (f"sshd: let in by nullok only (1): {homeless.name}" in status) is passes
    assert (f"sshd: refused until they enrol (1): {homeless.name}" in status) is not passes


def test_homeless__users_whom_enable_would_lock_out_are_named_with_what_helps(
    sick: PatientHost, homeless: Person
) -> None:
    sick.set_service("login", COMMON + HOMES)
    tool = sick.installed.root / "scripts" / "softtoken-admin"
    done = sick.run(tool, "enable", "login", "--dry-run", "--force")
    assert re.search(rf"{homeless.name}.*: no home directory yet for the token; {ELSEWHERE}", done.stderr), done
    done = sick.run(tool, "enable", "login", "--dry-run", "--force", "--enrol-later")
    assert "no home directory yet for the token" not in done.stderr, done


def test_homeless__users_who_may_only_be_out_of_sight_are_not_let_in_by_any_table(
    sick: PatientHost, homeless: Person
) -> None:
    sick.set_service("sshd", COMMON + sick.line("nullok") + HOMES)
    (sick.directory / "state" / "enrolled").mkdir(mode=0o711)
    (sick.directory / "state" / "enrolled" / str(homeless.uid)).write_text(homeless.name)
    status = sick.run(sick.installed.root / "scripts" / "softtoken-admin", "status", homeless.name).stdout
    assert "let in by nullok" not in status
    assert "no home directory yet for the token" not in status


@pytest.mark.parametrize(
    ("option", "severity"), [("nullok", "error"), ("required_from=2999-12-31", "error"), ("window=1", "warning")]
)
@pytest.mark.parametrize("module", ["pam_mount.so", "pam_ecryptfs.so", "pam_fscrypt.so"])
def test_store__in_homes_decrypted_by_a_later_line_is_reported(
    sick: PatientHost, module: str, option: str, severity: str
) -> None:
    line = f"session optional {module}\n"
    sick.set_service("sshd", COMMON + sick.line(option) + line)
    finding = sick.examine().only("/etc/pam.d/sshd:3", f"{module} opens home directories")
    assert finding["severity"] == severity
    assert ("without a code" in finding["what"]) is (severity == "error")
    sick.set_service("sshd", COMMON + sick.line("store=/var/lib/softtoken/%U", option) + line)
    assert not any("opens home directories" in each["what"] for each in sick.examine().findings)


def test_store__in_homes_on_the_network_is_reported(sick: PatientHost, alice: Person) -> None:
    row = "99 27 0:99 / {} rw - {} server:/export rw"
    for kind, severity in (("nfs4", "warning"), ("cifs", "warning"), ("autofs", "note")):
        found = sick.examine_with_mounts(row.format(alice.home.parent, kind))
        assert found.only(str(alice.home.parent), f"home directories are on {kind}")["severity"] == severity
    found = sick.examine_with_mounts(row.format(f"{alice.home.parent}-of-others", "nfs4"))
    assert not any("home directories are on" in each["what"] for each in found.findings)
    sick.set_service("sshd", COMMON + sick.line("store=/var/lib/softtoken/%U"))
    found = sick.examine_with_mounts(row.format(alice.home.parent, "nfs4"))
    assert not any("home directories are on" in each["what"] for each in found.findings)
