"""Signed commands through the real sudo: what is asked, what is signed, and what is refused."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from pam_softtoken.account import signers
from pam_softtoken.otp.statement import MAX_BYTES, Statement, shown_lines
from tests.support.account import Person
from tests.support.installation import Installation
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until
from tests.support.signed_sudo import PLUGIN, Laptop, Result, SignedSudo

RUN = ("printf", "it%sran", "_")
NOT_SIGNED, REQUIRED = "softtoken: not signed", "softtoken: a signature is required"
TOO_LONG = (
    "softtoken: this command line is too long to be signed: with its variables and directory, it may have "
    f"{MAX_BYTES} bytes"
)
NOT_CHECKED = "softtoken: the signature cannot be checked"


@pytest.fixture
def host(mounts: PrivateMounts) -> SignedSudo:
    return SignedSudo(mounts)


@pytest.fixture
def signer(host: SignedSudo, alice: Person, laptop: Laptop) -> Person:
    """A user who has a token that signs."""
    host.enrol(alice, laptop)
    return alice


@pytest.fixture(params=["without a password", "with a warm timestamp"])
def policy(request: pytest.FixtureRequest, host: SignedSudo, alice: Person) -> None:
    """The two ways in which sudo's own policy asks for nothing."""
    if request.param == "with a warm timestamp":
        host.set_rules("Defaults timestamp_type=global", "ALL ALL=(ALL:ALL) ALL")
        assert host.without_terminal(alice, "-v").status == 0


def refused(result: Result, message: str) -> None:
    assert not result.ran, result
    assert message in result.text
    assert result.status != 0


_SIXTY_WRONG = """
import sys, time
root, name, uid = sys.argv[1:]
sys.path.insert(0, root)
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.signers import SignerStore
from pam_softtoken.account.state import State
store = SignerStore(Account(name, int(uid), int(uid), home="/"))
store.open_signers()
store.lock(5)
store.write_state((store.read_state() or State.new()).with_wrong("local", 60, int(time.time())))
"""


def make_wrong(host: SignedSudo, person: Person, installed: Installation) -> None:
    """Record so many wrong answers that there is a wait of a quarter of an hour."""
    account = (str(installed.root), person.name, str(person.uid))
    assert host.run_as_root("/usr/bin/python3", "-I", "-c", _SIXTY_WRONG, *account).returncode == 0


def lines_of(statement: Statement) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {}
    for name, value in shown_lines(statement):
        lines.setdefault(name, []).append(value)
    return lines


# -- the ordinary way


def test_command__runs_when_it_is_signed(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    asking = host.ask(signer, *RUN)
    assert asking.text.startswith('To be signed with "laptop":\n  /usr/bin/printf it%sran _\n')
    statement = laptop.read(asking.text)
    assert (statement.run, statement.as_user, statement.user) == (("/usr/bin/printf", *RUN[1:]), "root", signer.name)
    assert (statement.cwd, statement.env, statement.notes, statement.argv0) == (str(signer.home), (), (), None)
    result = asking.answer(laptop.sign(asking.text))
    assert (result.ran, result.status) == (True, 0)
    line = host.last_line()
    assert f"user={signer.name} uid={signer.uid} token=laptop result=accepted reason=signed" in line
    assert 'detail="/usr/bin/printf it%sran _"' in line


def test_code__may_have_a_space(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    asking = host.ask(signer, *RUN)
    code = laptop.sign(asking.text)
    assert asking.answer(f" {code[:4]} {code[4:]}").ran


@pytest.mark.parametrize(
    "words", [("-u", "nobody"), ("-g", "adm"), ("-i",), ("-S",), ("-b",), ("-E",), ("-H",), ("-P",)]
)
def test_options__are_signed_too(host: SignedSudo, signer: Person, laptop: Laptop, words: tuple[str, ...]) -> None:
    host.set_rules("ALL ALL=(ALL:ALL) NOPASSWD: SETENV: ALL")
    asking = host.ask(signer, *words, *RUN, around=("env", "-i", "HOME=/nowhere"))
    statement = laptop.read(asking.text)
    wanted = {"-u": "nobody", "-g": f"{signer.name}:adm", "-P": "root with the groups of the caller"}
    assert statement.as_user == wanted.get(words[0], "root")
    assert statement.cwd == ("/root" if words == ("-i",) else str(signer.home))
    result = asking.answer(laptop.sign(asking.text))
    wait_until(lambda: result.ran, "the command") if words != ("-b",) else None
    assert result.status == 0


def test_shell__has_a_note(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    asking = host.ask(signer, "-s")
    statement = laptop.read(asking.text)
    assert (statement.kind, statement.notes) == ("shell", ("everything that is typed there runs as root",))
    refused(asking.answer(""), NOT_SIGNED)


def test_sudoedit__has_a_note(host: SignedSudo, signer: Person, laptop: Laptop, tmp_path: Path) -> None:
    asking = host.ask(signer, "-e", "/etc/hosts", around=("env", "EDITOR=/bin/true"))
    statement = laptop.read(asking.text)
    assert (statement.kind, statement.notes) == ("sudoedit", ("what is written to the files is not signed",))
    assert statement.run == ("sudoedit", "/etc/hosts")
    assert asking.answer(laptop.sign(asking.text)).status == 0


def test_program__that_others_can_change_has_a_note(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    program = signer.home / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    asking = host.ask(signer, program)
    (note,) = laptop.read(asking.text).notes
    assert note == f"others than root can change {signer.home}"
    refused(asking.answer("1"), NOT_SIGNED)


def test_program__with_a_relative_name_is_the_one_in_the_directory(
    host: SignedSudo, signer: Person, laptop: Laptop
) -> None:
    """A root's program of the same name below / does not count."""
    program = signer.home / "bin" / "true"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    asking = host.ask(signer, "bin/true")
    assert laptop.read(asking.text).notes == (f"others than root can change {signer.home}",)
    refused(asking.answer("1"), NOT_SIGNED)


@pytest.mark.parametrize(
    ("words", "limit", "note"),
    [
        (("-C", "100"), "-c 0", "it gets open files of the caller"),
        (("-T", "5"), "-c 0", "it is ended after 5 s"),
        ((), "-S -f 0", "a limit of the caller holds: fsize 0"),
    ],
)
def test_what_the_caller_hands_on__has_a_note(
    host: SignedSudo, signer: Person, laptop: Laptop, words: tuple[str, ...], limit: str, note: str
) -> None:
    host.set_rules("Defaults closefrom_override, user_command_timeouts", "ALL ALL=(ALL:ALL) NOPASSWD: ALL")
    asking = host.ask(signer, *words, *RUN, around=("sh", "-c", f'ulimit {limit}; exec "$@"', "sh"))
    assert laptop.read(asking.text).notes == (note,)
    refused(asking.answer("1"), NOT_SIGNED)


@pytest.mark.parametrize("name", ["link", "hop", "open/tool"])
def test_program__behind_links_is_looked_for_as_the_kernel_does(
    host: SignedSudo, signer: Person, laptop: Laptop, name: str
) -> None:
    place = host.mounts.directory / "links"
    for directory, mode in ((place, 0o755), (place / "open", 0o777)):
        directory.mkdir()
        directory.chmod(mode)
    (place / "open" / "tool").write_text("#!/bin/sh\n")
    (place / "open" / "tool").chmod(0o755)
    (place / "link").symlink_to("open/tool")
    (place / "hop").symlink_to(place / "link")
    asking = host.ask(signer, f"{place}/{name}")
    assert laptop.read(asking.text).notes == (f"others than root can change {place}/open",)
    refused(asking.answer(""), NOT_SIGNED)


def test_two_laptops__can_both_sign(host: SignedSudo, alice: Person) -> None:
    laptops = (Laptop("laptop"), Laptop("spare"))
    host.enrol(alice, *laptops)
    for laptop in laptops:
        asking = host.ask(alice, *RUN)
        assert asking.answer(laptop.sign(asking.text)).ran
    assert "token=spare" in host.last_line()


# -- who is asked


def test_user__who_never_enrolled_is_not_asked(host: SignedSudo, alice: Person) -> None:
    assert host.ask(alice, *RUN).end().ran
    assert not host.last_line()


def test_user__who_never_enrolled_is_refused_where_everybody_must_sign(mounts: PrivateMounts, alice: Person) -> None:
    host = SignedSudo(mounts, "required")
    refused(host.ask(alice, *RUN).end(), REQUIRED)


def test_root__is_never_asked(mounts: PrivateMounts) -> None:
    host = SignedSudo(mounts, "required")
    assert "it_ran" in host.run_as_root("sudo", *RUN).stdout
    shutil.rmtree(mounts.path("/var/lib/softtoken/sign"))
    assert "it_ran" in host.run_as_root("sudo", *RUN).stdout


@pytest.mark.claim("A user who ever had a signing token is not taken for one who never had.")
@pytest.mark.parametrize("what", ["the tokens", "the marks by name", "the marks by uid"])
def test_signer__stays_one_when_something_is_gone(host: SignedSudo, signer: Person, what: str) -> None:
    """A deleted file, a changed name and a changed uid prove nothing."""
    if what == "the tokens":
        (host.store_of(signer) / "tokens").unlink()
    elif what == "the marks by name":
        host.mounts.path(signers.name_mark(signer.name)).unlink()
        (host.store_of(signer) / "tokens").unlink()
    else:
        shutil.rmtree(host.store_of(signer))
    refused(host.ask(signer, *RUN).end(), REQUIRED)


def test_everybody__is_refused_when_nobody_can_tell_who_signs(host: SignedSudo, alice: Person) -> None:
    shutil.rmtree(host.mounts.path("/var/lib/softtoken/sign"))
    refused(host.ask(alice, *RUN).end(), NOT_CHECKED)
    assert "nobody can tell who has a signing token" in host.last_line()


def test_token__of_another_account_signs_nothing(host: SignedSudo, alice: Person, laptop: Laptop) -> None:
    host.enrol(alice, laptop)
    tokens = host.store_of(alice) / "tokens"
    tokens.write_bytes(signers.serialise((laptop.token,), owner=("somebody", alice.uid)))
    refused(host.ask(alice, *RUN).end(), NOT_CHECKED)
    assert "reason=other_account" in host.last_line()


# -- refusals


@pytest.mark.claim("A signature is good for one command, once, in one terminal.")
@pytest.mark.usefixtures("policy")
def test_code__is_good_for_one_command_only(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    first, second = host.ask(signer, *RUN), host.ask(signer, *RUN, "too")
    codes = laptop.sign(first.text), laptop.sign(second.text)
    refused(second.answer(codes[0]), NOT_SIGNED)
    refused(first.answer(codes[1]), NOT_SIGNED)


@pytest.mark.claim("A signature is good for one command, once, in one terminal.")
@pytest.mark.usefixtures("policy")
def test_code__is_good_for_one_time_only(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    asking = host.ask(signer, *RUN)
    code = laptop.sign(asking.text)
    assert asking.answer(code).ran
    refused(host.ask(signer, *RUN).answer(code), NOT_SIGNED)


@pytest.mark.claim("A signature is good for one command, once, in one terminal.")
@pytest.mark.usefixtures("policy")
def test_same_command__in_two_terminals_needs_two_codes(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    first, second = host.ask(signer, *RUN), host.ask(signer, *RUN)
    code = laptop.sign(first.text)
    refused(second.answer(code), NOT_SIGNED)
    assert first.answer(code).ran


@pytest.mark.claim(
    "For a user with a signing token, sudo runs nothing without a question, a terminal or a right answer."
)
@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize(
    "answer", ["", "12345678", "1234567", "123456789", "yes", "1234 567x", "\N{ARABIC-INDIC DIGIT ONE}" * 8]
)
def test_wrong_answer__is_refused(host: SignedSudo, signer: Person, answer: str) -> None:
    refused(host.ask(signer, *RUN).answer(answer), NOT_SIGNED)


def test_code_of_another_command__is_told_from_no_answer(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    hint = "That code does not sign this command. Run it again, and sign the new line.\n"
    assert hint in host.ask(signer, *RUN).answer("12345678").text
    assert hint not in host.ask(signer, *RUN).answer("").text


def test_wrong_answer__is_not_asked_again(host: SignedSudo, signer: Person) -> None:
    result = host.ask(signer, *RUN).answer("12345678")
    assert result.text.count("Code: ") == 0  # what stood before the answer is not repeated


@pytest.mark.usefixtures("policy")
def test_interrupt__is_a_no(host: SignedSudo, signer: Person) -> None:
    result = host.ask(signer, *RUN).interrupt()
    assert not result.ran
    assert result.status != 0


@pytest.mark.claim(
    "For a user with a signing token, sudo runs nothing without a question, a terminal or a right answer."
)
@pytest.mark.usefixtures("policy")
def test_noninteractive_sudo__is_refused(host: SignedSudo, signer: Person) -> None:
    refused(host.ask(signer, "-n", *RUN).end(), REQUIRED)
    assert "reason=signature_required" in host.last_line()


@pytest.mark.claim(
    "For a user with a signing token, sudo runs nothing without a question, a terminal or a right answer."
)
@pytest.mark.usefixtures("policy")
def test_sudo__without_a_terminal_is_refused(host: SignedSudo, signer: Person) -> None:
    refused(host.without_terminal(signer, *RUN), NOT_SIGNED)


def test_sudo__without_a_terminal_takes_the_code_from_stdin(host: SignedSudo, signer: Person) -> None:
    refused(host.without_terminal(signer, "-S", *RUN, typed="12345678\n"), NOT_SIGNED)


def test_askpass__is_asked_and_judged(host: SignedSudo, signer: Person) -> None:
    helper = signer.home / "askpass"
    helper.write_text("#!/bin/sh\necho 12345678\n")
    helper.chmod(0o755)
    host.set_plugin(PLUGIN, more=f"Path askpass {helper}")
    refused(host.ask(signer, "-A", *RUN).end(), NOT_SIGNED)


@pytest.mark.usefixtures("policy")
def test_long_command__is_refused_before_anything_is_asked(host: SignedSudo, signer: Person) -> None:
    for length in (1600, 70_000, 120_000):
        refused(host.ask(signer, *RUN, "x" * length).end(), TOO_LONG)
        assert "reason=too_long" in host.last_line()


def test_request__that_was_changed_is_not_read(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    asking = host.ask(signer, *RUN)
    with pytest.raises(Exception, match=r"changed on its way|not complete"):
        laptop.read(asking.text.replace("stq1.", "stq1.A", 1))
    refused(asking.answer(""), NOT_SIGNED)


def test_token__that_is_taken_away_during_the_question_signs_nothing(
    host: SignedSudo, signer: Person, laptop: Laptop
) -> None:
    asking = host.ask(signer, *RUN)
    host.enrol(signer)
    refused(asking.answer(laptop.sign(asking.text)), REQUIRED)


def test_guesser__has_to_wait(host: SignedSudo, signer: Person) -> None:
    for wrong in range(20):  # each wait is twice as long as the one before
        asking = host.ask(signer, *RUN)
        if "Too many wrong codes. Sign two requests, or wait " in asking.text:
            assert wrong >= 5
            return
        refused(asking.answer("12345678"), NOT_SIGNED)
    raise AssertionError("there is no wait")


def test_owner__gets_in_with_two_signatures_however_often_a_program_of_theirs_guesses(
    host: SignedSudo, signer: Person, laptop: Laptop, installed: Installation
) -> None:
    make_wrong(host, signer, installed)
    for answers in ((True, False), (False, True), (False, False), ("first", "first")):
        asking = host.ask(signer, *RUN)
        codes = [laptop.sign(asking.text)]
        again = asking.answer_and_ask(codes[0] if answers[0] else "12345678")
        assert again.asks, "one answer was judged alone"
        codes.append(laptop.sign(again.text))
        second = {True: codes[1], False: "12345678", "first": codes[0]}[answers[1]]
        refused(again.answer(second), NOT_SIGNED)
        assert "reason=throttled" in host.last_line()
    asking = host.ask(signer, *RUN)
    again = asking.answer_and_ask(laptop.sign(asking.text))
    assert laptop.read(asking.text) != laptop.read(again.text)
    assert again.answer(laptop.sign(again.text)).ran
    assert "Too many wrong codes." in host.ask(signer, *RUN).text, "a success has earned a guesser free answers"


def test_owner__whom_a_guesser_overtakes_signs_once_more(
    host: SignedSudo, signer: Person, laptop: Laptop, installed: Installation
) -> None:
    asking = host.ask(signer, *RUN)
    make_wrong(host, signer, installed)
    again = asking.answer_and_ask(laptop.sign(asking.text))
    assert "Too many wrong codes. Sign two requests, or wait 15 min." in again.text
    assert again.answer(laptop.sign(again.text)).ran


def test_token__that_is_taken_away_between_two_signatures_signs_nothing(
    host: SignedSudo, alice: Person, laptop: Laptop, installed: Installation
) -> None:
    gone, stays = laptop, Laptop("spare")
    for moment in ("before the first answer", "before the second answer"):
        host.enrol(alice, gone, stays)
        make_wrong(host, alice, installed)
        asking = host.ask(alice, *RUN)
        code = gone.sign(asking.text)
        if moment == "before the first answer":
            host.enrol(alice, stays)
            again = asking.answer_and_ask(code)
            refused(again.answer(stays.sign(again.text)), NOT_SIGNED)  # and not with one signature of the other
        else:
            again = asking.answer_and_ask(code)
            host.enrol(alice, stays)
            refused(again.answer(gone.sign(again.text)), NOT_SIGNED)


def test_full_disk__makes_no_guess_free(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    """Where a wrong answer could not be recorded, none is judged."""
    fill = "cat /dev/zero >/var/lib/softtoken/fill"
    host.run_as_root("sh", "-c", f"mount -o remount,size=64k /var/lib/softtoken; {fill}")
    asking = host.ask(signer, *RUN)
    refused(asking.end() if not asking.asks else asking.answer("12345678"), NOT_CHECKED)
    assert not asking.asks
    host.mounts.path("/var/lib/softtoken/fill").unlink()
    refused(host.ask(signer, *RUN).answer("12345678"), NOT_SIGNED)
    host.run_as_root("sh", "-c", fill)
    for _ in range(3):  # from now on there is room
        refused(host.ask(signer, *RUN).answer("12345678"), NOT_SIGNED)
    asking = host.ask(signer, *RUN)
    assert asking.answer(laptop.sign(asking.text)).ran


def test_right_answer__clears_the_wrong_ones(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    for _ in range(2):
        for _ in range(4):
            refused(host.ask(signer, *RUN).answer("12345678"), NOT_SIGNED)
        asking = host.ask(signer, *RUN)
        assert asking.answer(laptop.sign(asking.text)).ran


def test_right_answer__writes_nothing(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    asking = host.ask(signer, *RUN)
    before = (host.store_of(signer) / "state").read_bytes()
    assert asking.answer(laptop.sign(asking.text)).ran
    assert (host.store_of(signer) / "state").read_bytes() == before


# -- the environment


@pytest.mark.claim("A variable that reaches a signed command is in the statement, unless it is on a short list.")
def test_environment__is_shown_wherever_it_comes_from(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    host.set_rules('Defaults env_keep += "KEPT"', "ALL ALL=(ALL:ALL) NOPASSWD: SETENV: ALL")
    around = ("env", "-i", "KEPT=1", "GIT_SSH=/tmp/evil", "PS1=$(evil)")
    for words, wanted in (
        ((), {"KEPT=1", "PS1=$(evil)"}),
        (("-E",), {"KEPT=1", "PS1=$(evil)", "GIT_SSH=/tmp/evil"}),
        (("LD_PRELOAD=/tmp/evil.so",), {"KEPT=1", "PS1=$(evil)", "LD_PRELOAD=/tmp/evil.so"}),
        (("PATH=/tmp/evil:/bin",), {"KEPT=1", "PS1=$(evil)", "PATH=/tmp/evil:/bin"}),
        (("SUDO_USER=root", "SUDO_UID=0"), {"KEPT=1", "PS1=$(evil)", "SUDO_USER=root", "SUDO_UID=0"}),
        (("HOME=/tmp/evil",), {"KEPT=1", "PS1=$(evil)", "HOME=/tmp/evil"}),
    ):
        asking = host.ask(signer, *words, *RUN, around=around)
        seen = set(laptop.read(asking.text).env)
        assert wanted <= seen, words
        refused(asking.answer("0"), NOT_SIGNED)


def test_environment__of_an_ordinary_command_is_not_shown(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    around = (
        "env",
        "LANG=de_DE.UTF-8",
        "LC_ALL=C.UTF-8",
        "TERM=xterm-256color",
        "DISPLAY=:0",
        "LS_COLORS=di=34:*/x=1",
        "XAUTHORITY=/x",
    )
    for words in ((), ("-i",), ("-u", "nobody"), ("-s",)):
        asking = host.ask(signer, *words, *RUN, around=around)
        assert laptop.read(asking.text).env == (), words
        refused(asking.answer("0"), NOT_SIGNED)


def test_links_and_directories__are_those_of_the_command(host: SignedSudo, signer: Person, laptop: Laptop) -> None:
    asking = host.ask(signer, "-D", "/var/tmp", *RUN)
    if asking.asks:
        assert laptop.read(asking.text).cwd == "/var/tmp"
        refused(asking.answer("0"), NOT_SIGNED)
    host.set_rules("Defaults runcwd=*", "ALL ALL=(ALL:ALL) NOPASSWD: ALL")
    asking = host.ask(signer, "-D", "/var/tmp", *RUN)
    assert laptop.read(asking.text).cwd == "/var/tmp"
    refused(asking.answer("0"), NOT_SIGNED)


# -- ways of running


@pytest.mark.parametrize("setting", ["use_pty", "!use_pty", "intercept", "log_subcmds", "log_output", "noexec"])
def test_setting__of_sudoers_changes_nothing(host: SignedSudo, signer: Person, laptop: Laptop, setting: str) -> None:
    host.set_rules(f"Defaults {setting}", "ALL ALL=(ALL:ALL) NOPASSWD: ALL")
    refused(host.ask(signer, *RUN).answer("12345678"), NOT_SIGNED)
    asking = host.ask(signer, *RUN)
    result = asking.answer(laptop.sign(asking.text))
    assert result.ran, result


def test_command__that_sudo_intercepts_is_signed_with_its_own_directory(
    host: SignedSudo, signer: Person, laptop: Laptop
) -> None:
    host.set_rules("Defaults intercept", "ALL ALL=(ALL:ALL) NOPASSWD: ALL")
    asking = host.ask(signer, "sh", "-c", f"cd /var/tmp; /usr/bin/{' '.join(RUN)}; true")
    asking = asking.answer_and_ask(laptop.sign(asking.text))
    statement = laptop.read(asking.text)
    assert (statement.run, statement.cwd) == (("/usr/bin/printf", *RUN[1:]), "/var/tmp")
    assert asking.answer(laptop.sign(asking.text)).ran


def test_listing_and_validating__ask_for_nothing(host: SignedSudo, signer: Person) -> None:
    for words in (("-l",), ("-v",), ("-K",), ("-V",)):
        assert host.ask(signer, *words).end().status == 0, words


# -- the plugin


def test_plugin__that_is_missing_lets_nobody_through(host: SignedSudo, signer: Person) -> None:
    host.set_plugin(PLUGIN.with_name("missing.so"))
    result = host.ask(signer, *RUN).end()
    assert not result.ran
    assert "it_ran" not in host.run_as_root("sudo", *RUN).stdout


@pytest.mark.claim("Whatever the approver cannot do, no command with a wrong signature runs.")
@pytest.mark.parametrize("damage", ["missing", "open", "empty", "hangs at once", "ends at once", "says too much"])
def test_approver__that_is_broken_lets_nobody_through(host: SignedSudo, signer: Person, damage: str) -> None:
    approver = host.mounts.directory / "plugins" / "approver"
    body = {
        "hangs at once": "import time; time.sleep(600)",
        "ends at once": "raise SystemExit(0)",
        "says too much": "import os; os.write(0, b'\\x01R\\x01' + b'x' * 70000)",
    }.get(damage, "")
    approver.write_text(f"#!/usr/bin/python3\n{body}\n")
    approver.chmod(0o777 if damage == "open" else 0o755)
    if damage == "missing":
        approver.unlink()
    host.conf.write_text(f"Plugin softtoken_approval {PLUGIN} approver={approver}\n")
    began_s = time.monotonic()
    refused(host.ask(signer, *RUN).end(), NOT_CHECKED)
    assert time.monotonic() - began_s < 60
    assert "reason=backend" in host.last_line()


# -- what administrators do meanwhile


def test_revoke__refuses_the_code_of_somebody_who_waits_at_the_prompt(
    host: SignedSudo, signer: Person, laptop: Laptop, installed: Installation
) -> None:
    asking = host.ask(signer, *RUN)
    code = laptop.sign(asking.text)
    done = host.run_as_root(str(installed.root / "scripts" / "softtoken-admin"), "revoke", signer.name, "--yes")
    assert done.returncode == 0, done.stderr
    for when in ("Then", "Now"):  # before the question whether to revoke, and after it
        assert f"{when} sudo refuses {signer.name}, who has no signing token any more." in done.stderr
    assert f"softtoken-enroll --sign --user {signer.name} --remove laptop" in done.stderr
    refused(asking.answer(code), REQUIRED)
    refused(host.ask(signer, *RUN).end(), REQUIRED)


def test_unlock__ends_the_wait_of_wrong_signatures(
    host: SignedSudo, signer: Person, laptop: Laptop, installed: Installation
) -> None:
    admin = str(installed.root / "scripts" / "softtoken-admin")
    refused(host.ask(signer, *RUN).answer("00000000"), NOT_SIGNED)
    make_wrong(host, signer, installed)
    assert "Sign two requests, or wait" in host.ask(signer, *RUN).text
    shown = host.run_as_root(admin, "status", signer.name)
    assert "signatures must wait until" in shown.stdout, shown
    assert host.run_as_root(admin, "unlock", signer.name).returncode == 0
    asking = host.ask(signer, *RUN)
    assert asking.answer(laptop.sign(asking.text)).ran
