"""What sudo is about to do, as a statement."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.bridge.approval_wire import Start
from pam_softtoken.otp.statement import Statement
from pam_softtoken.signing import command as signing_command
from pam_softtoken.signing.command import statement_of
from tests.support.installation import TREE

NONCE, KEY = "0" * 32, "1" * 16
USER = {
    "user": "root", "uid": "0", "gid": "0", "host": "server", "cwd": "/srv", "tty": "/dev/pts/3",
    "rlimit_cpu": "infinity,infinity", "rlimit_fsize": "infinity,infinity", "rlimit_nofile": "1024,4096",
}  # fmt: skip
COMMAND = {"command": "/usr/bin/true", "runas_uid": "0", "runas_gid": "0", "closefrom": "3"}


def start(
    *arguments: str, env: tuple[str, ...] = (), settings: tuple[str, ...] = (), argv0: str = "true",
    user: dict[str, str] | None = None, **command: str,
) -> Start:  # fmt: skip
    facts = {"U": {**USER, **(user or {})}, "I": {**COMMAND, **command}}
    texts = [f"{kind}{name}={value}" for kind, values in facts.items() for name, value in values.items()]
    texts += [f"S{setting}" for setting in settings]
    texts += [f"A{argument}" for argument in (argv0, *arguments)]
    return Start([*texts, *(f"E{variable}" for variable in env)])


def stated(what: Start) -> Statement:
    return statement_of(what, now=1_795_000_000, nonce=NONCE, key=KEY)


def test_statement__of_an_ordinary_command() -> None:
    statement = stated(start("-x", "a b"))
    assert statement.encode().decode() == (
        "softtoken-request 1\nhost server\nuser root\nas root\nin /srv\ntty /dev/pts/3\n"
        f'run /usr/bin/true -x "a b"\ntime 1795000000\nnonce {NONCE}\nkey {KEY}\n'
    )


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (start(command="/usr/bin/false"), "run /usr/bin/false"),
        (start("x"), "run /usr/bin/true x"),
        (start(argv0="other"), "argv0 other"),
        (start(argv0="/usr/bin/true"), "argv0 /usr/bin/true"),
        (start(cwd="/tmp"), "in /tmp"),
        (start(chroot="/tmp"), "chroot /tmp"),
        (start(chroot="/tmp"), "note who can change programs below /tmp was not checked"),
        (start(runas_uid="1"), "as "),
        (start(runas_gid="1"), "as root:"),
        (start(runas_euid="1"), "as "),
        (start(runas_uid="4123456789"), 'as "#4123456789:root"'),
        (start(preserve_groups="true"), 'as "root with the groups of the caller"'),
        (start(env=("A=1",)), "env A=1"),
        (start(env=("LD_PRELOAD=/x",)), "env LD_PRELOAD=/x"),
        (start(settings=("run_shell=true",)), "kind shell"),
        (start(settings=("login_shell=true",)), "kind login-shell"),
        (start(sudoedit="true", sudoedit_nfiles="1"), "kind sudoedit"),
        (start(selinux_role="sysadm_r"), "note selinux_role sysadm_r"),
        (start(selinux_type="sysadm_t"), "note selinux_type sysadm_t"),
        (start(apparmor_profile="p"), "note apparmor_profile p"),
        (start(preserve_fds="3"), "note it gets open files of the caller"),
        (start(closefrom="200"), "note it gets open files of the caller"),
        (start(timeout="5"), "note it is ended after 5 s"),
        (start(runcwd="/tmp"), "in /tmp"),
        (start(cwd="/opt", runcwd="/tmp"), "in /tmp"),
        (start(user={"rlimit_fsize": "0,infinity"}), "note a limit of the caller holds: fsize 0"),
        (start(user={"rlimit_cpu": "1,1"}), "note a limit of the caller holds: cpu 1"),
        (start(command="./true", argv0="./true"), "note others than root can change /srv/true"),
        (start(command="./true", argv0="./true", user={"cwd": ""}), "note others than root can change ./true"),
        (start(cwd="/nowhere", cwd_optional="true"), "note if it cannot go there, it runs in /srv"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_statement__says_what_is_changed(changed: Start, line: str) -> None:
    lines = stated(changed).encode().decode().splitlines()
    assert [each for each in lines if each.startswith(line)], lines
    assert stated(changed) != stated(start())


WORDS = st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF, exclude_categories=["Cs"]), max_size=12)
ENV = st.lists(st.tuples(st.sampled_from(("A", "PATH", "HOME", "TERM", "SUDO_USER")), WORDS).map("=".join), max_size=3)


@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4), ENV, ENV)
def test_statement__of_two_commands_differs(
    one: list[str], other: list[str], env: list[str], other_env: list[str]
) -> None:
    same = stated(start(*one, env=tuple(env))) == stated(start(*other, env=tuple(other_env)))
    assert same == (one == other and _told(env) == _told(other_env))


def _told(env: list[str]) -> list[str]:
    """Return the variables that an independent rule does not leave out."""
    left_out = {"PATH=/bin", "HOME=/root", "SUDO_USER=root"}
    return [each for each in env if each not in left_out and not re.fullmatch("TERM=[A-Za-z0-9_.@:+,=-]*", each)]


@pytest.mark.parametrize(
    "variable",
    ["TERM=xterm", "LANG=de_DE.UTF-8", "LC_ALL=C", "TZ=UTC", "PATH=/usr/sbin:/usr/bin", "HOME=/root", "USER=root",
     "LOGNAME=root", "MAIL=/var/mail/root", "SHELL=/bin/bash", "SUDO_USER=root", "SUDO_UID=0", "SUDO_GID=0",
     "SUDO_COMMAND=/usr/bin/true", "LS_COLORS=/x", "DISPLAY=:0", "DISPLAY=localhost:10.0", "HOSTNAME=a-b.example",
     "LANGUAGE=de_DE:en", "LC_ALL=sr_RS.UTF-8@latin", "LANG="],
)  # fmt: skip
def test_variable__that_changes_nothing_is_left_out(variable: str) -> None:
    assert stated(start(env=(variable,))).env == ()


@pytest.mark.parametrize(
    "variable",
    ["TERM=/tmp/x", "LANG=%n", "LC_ALL=/x", "TZ=/etc/x", "PATH=", "PATH=/tmp", "PATH=/usr/bin:", "PATH=/usr/bin:.",
     "PATH=/usr/bin:/home/x", "HOME=/tmp", "USER=alice", "MAIL=/tmp/x", "SHELL=/tmp/bash", "SHELL=/bin/evil",
     "SUDO_USER=bob", "SUDO_UID=1", "SUDO_GID=1", "SUDO_COMMAND=/bin/false", "DISPLAY=/x", "PS1=$(x)",
     "BASH_FUNC_x%%=()", "LESSOPEN=|x", "EDITOR=x", "A=", "DISPLAY=elsewhere:0", "DISPLAY=192.0.2.1:0",
     "HOSTNAME=$(id)", "TERM=x; id", "LC_X=a[`id`]", "LANG=a b", "HOSTNAME=\n", "TERM=*"],
)  # fmt: skip
def test_variable__that_may_change_something_is_shown(variable: str) -> None:
    assert stated(start(env=(variable,))).env == (variable,)


def test_edit__names_the_files_and_not_the_editor() -> None:
    edit = start(
        "-w", "--", "/etc/a", "/etc/b", env=("A=1",), sudoedit="true", sudoedit_nfiles="2", command="/usr/bin/vi"
    )
    assert stated(edit).run == ("sudoedit", "/etc/a", "/etc/b")
    assert (stated(edit).env, stated(edit).argv0) == ((), None)


@pytest.mark.parametrize(
    ("words", "noted"),
    [
        ((), True), (("-i",), True), (("--login",), True), (("-c", "id"), False), (("-lc", "id"), False),
        (("script",), False), (("--login", "-c", "id"), False), (("-o", "vi"), True), (("+O", "extglob"), True),
        (("--rcfile", "x"), True), (("-rcfile", "x"), True),
        (("-norc",), True), (("--init-file", "x", "-i"), True), (("-eo", "pipefail", "script"), False),
        (("-s", "x"), True), (("-es", "--", "c"), True), (("--", "script", "-s"), False), (("--norc", "script"), False),
        (("/dev/stdin",), True), (("-",), True), (("-x", "script", "-c"), False), (("-o", "vi", "-c", "id"), False),
    ],
)  # fmt: skip
def test_shell__that_takes_commands_has_a_note(words: tuple[str, ...], noted: bool) -> None:
    statement = stated(start(*words, command="/bin/bash", argv0="bash"))
    assert ("everything that is typed there runs as root" in statement.notes) == noted


@pytest.mark.parametrize(
    ("program", "words", "noted"),
    [
        ("su", (), True), ("su", ("root",), True), ("su", ("-", "root"), True), ("su", ("-s", "/bin/sh", "x"), True),
        ("su", ("-c", "id"), False), ("su", ("-", "-c", "id"), False),
        ("su", ("root", "-c", "id"), False), ("su", ("--command=id", "root"), False),
        ("su", ("-lc", "id"), False), ("su", ("--session-command", "id"), False), ("su", ("-s", "-c"), True),
        ("tmux", ("attach",), True), ("screen", ("-r", "x"), True), ("busybox", ("sh",), True),
        ("busybox", ("sh", "-c", "id"), False), ("busybox", ("ls",), False), ("busybox", (), False),
    ],
)  # fmt: skip
def test_program__that_starts_a_shell_has_a_note(program: str, words: tuple[str, ...], noted: bool) -> None:
    statement = stated(start(*words, command=f"/usr/bin/{program}", argv0=program))
    assert ("everything that is typed there runs as root" in statement.notes) == noted


def test_manual__names_every_variable_that_is_left_out() -> None:
    text = (TREE / "pam_softtoken/man/softtoken-security.7.in").read_text()
    short_list = text.partition("Every variable of the command is in it")[2].partition(".Pp")[0]
    named = set(re.findall(r"^\.Ev (\S+)", short_list, re.MULTILINE))
    assert named == {*signing_command._HARMLESS, *signing_command._HARMLESS_WORDS, "LC_*", "SHELL", "PATH"}
