"""Compare the reader of PAM service files with libpam: `pam_echo` shows its arguments.

So libpam itself shows the order of its calls and their words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.admin.change import plan
from pam_softtoken.pam import installed_libpam, jumps, service_edit, service_file
from pam_softtoken.pam.dialect import IN_PIECES
from pam_softtoken.pam.stack import Stack
from pam_softtoken.program_errors import AdministrationFailed
from tests.support.client import TEXT_INFO, Service

OURS = service_edit.our_line("pam_softtoken.so")
DEBIAN = """\
# The first factor.

@include common-auth
account required pam_nologin.so
"""
COMMON = """\
auth\t[success=1 default=ignore]\tpam_unix.so nullok
auth\trequisite\t\t\tpam_deny.so
auth\trequired\t\t\tpam_permit.so
auth\toptional\t\t\tpam_cap.so
"""


def reader_of(directory: Path) -> Callable[[str], str | None]:
    def read(path: str) -> str | None:
        file = directory / path.removeprefix("/etc/pam.d/")
        return file.read_bytes().decode() if file.is_relative_to(directory) and file.is_file() else None

    return read


def stack_of(text: str, **others: str) -> Stack:
    """Read a service "sshd" with this text. Others are beside it, with `_` for `-`."""
    files = {f"/etc/pam.d/{name.replace('_', '-')}": content for name, content in others.items()}
    return service_file.read("sshd", {"/etc/pam.d/sshd": text, **files}.get, IN_PIECES)


PLAIN = "auth required pam_echo.so"
BETWEEN = "" if installed_libpam.dialect().whole_lines else "\n# between\n"
"""What an older libpam skips inside a continued line. A newer one ends the line there."""
STACKS = {
    "words": f"{PLAIN} one two\n\t AUTH  Required\tpam_echo.so   three  \n",
    "comments": f"# auth required pam_echo.so no\n  # no\n{PLAIN} one # two\n{PLAIN} three#four\n",
    "continued": f"{PLAIN} one \\\n two \\ \t\n{BETWEEN} three\n{PLAIN} four # five \\\n{PLAIN} six\n",
    "in the middle of a word": f"{PLAIN} on\\\ne two\n",
    "brackets": f"{PLAIN} [one two] x[three four] [[five\\]] []\n",
    "quiet": "-auth required pam_echo.so one\n-auth optional pam_absent.so no\n",
    "bracketed control": "auth [success=ok  default=bad] pam_echo.so one\nauth [required] pam_echo.so two\n",
    "@include": f"{PLAIN} one\n@include DIR/other-file\n{PLAIN} two\n",
    "include": f"auth include DIR/other-file\n{PLAIN} two\naccount include DIR/other-file\n",
    "substack": f"auth substack DIR/other-file\n{PLAIN} two\n",
    "no line feed at the end": f"{PLAIN} one\n{PLAIN} two",
    "a line of another type": f"account required pam_echo.so no\n{PLAIN} one\nsession optional pam_echo.so no\n",
    "carriage returns": f"{PLAIN} one\r two\n",
    "no line of the type": "account required pam_permit.so\n",
}


@pytest.mark.parametrize("name", STACKS)
def test_reader__sees_the_lines_and_words_that_libpam_sees(name: str, make_service: Callable[[str], Service]) -> None:
    """Even with a private directory, libpam looks for included files in the host's, unless their path is absolute."""
    end = "" if name.startswith("no line") else "auth required pam_permit.so\n"
    service = make_service("")
    (service.directory / service.name).write_text(STACKS[name].replace("DIR", str(service.directory)) + end)
    (service.directory / "other-file").write_text(
        f"{PLAIN} inner\naccount required pam_echo.so no\nauth include {service.directory}/deeper\n{PLAIN} more\n"
    )
    (service.directory / "deeper").write_text(f"{PLAIN} deep\n")
    (service.directory / "other").write_text(f"{PLAIN} fallback\n")
    shown = [text for style, text in service.log_in("root").messages if style == TEXT_INFO]
    stack = service_file.read(service.name, reader_of(service.directory), installed_libpam.dialect())
    assert shown
    assert shown == [" ".join(line.arguments) for line in stack.of("auth") if line.name == "pam_echo.so"]
    assert not stack.problems


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("auth required pam_permit.so\nauht required pam_deny.so\n", "/etc/pam.d/sshd:2: "),
        ("\nauth required\n", "/etc/pam.d/sshd:2: "),
        ("auth mandatory pam_deny.so\n", "/etc/pam.d/sshd:1: "),
        ("@include absent\n", "/etc/pam.d/sshd:1: "),
        ("auth required pam_permit.so \\\n", "/etc/pam.d/sshd:1: "),
        ("@include sshd\n", "/etc/pam.d/sshd:1: "),
    ],
)
def test_reader__names_file_and_line_of_an_error(text: str, place: str) -> None:
    (problem,) = stack_of(text).problems
    assert str(problem).startswith(place)


def test_reader__tells_where_an_included_line_came_from() -> None:
    stack = stack_of(DEBIAN, common_auth=COMMON + "@include deeper\n", deeper="\nauth optional pam_x.so\n")
    deepest = stack.of("auth")[-1]
    assert str(deepest.place) == "/etc/pam.d/deeper:2"
    assert [str(place) for place in deepest.via] == ["/etc/pam.d/sshd:3", "/etc/pam.d/common-auth:5"]


def test_put__stands_behind_the_include_that_asks_for_the_password() -> None:
    changed = service_edit.put(DEBIAN, stack_of(DEBIAN, common_auth=COMMON), OURS)
    assert changed == DEBIAN.replace("common-auth\n", "common-auth\nauth\trequired\tpam_softtoken.so\n")
    assert [line.name for line in stack_of(changed, common_auth=COMMON).of("auth")][-1] == "pam_softtoken.so"


def test_put__line_stands_behind_the_target_of_the_password_jump() -> None:
    changed = service_edit.put(COMMON, stack_of(COMMON), OURS)
    assert [line.split()[-1] for line in changed.splitlines()] == [
        "nullok", "pam_deny.so", "pam_softtoken.so", "pam_permit.so", "pam_cap.so",
    ]  # fmt: skip


def test_put__refuses_where_no_password_is_asked_for() -> None:
    text = "auth required pam_permit.so\n"
    with pytest.raises(jumps.CannotEdit):
        service_edit.put(text, stack_of(text), OURS)


@pytest.mark.parametrize("instead", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        DEBIAN,
        "@include common-auth",
        COMMON,
        "auth required pam_env.so\nauth required \\\n  pam_unix.so\t\\\n try_first_pass\n\nsession required pam_x.so",
        "auth required pam_unix.so # caf\udce9\r\n#softtoken: a remark\n",
    ],
)
def test_take_out__restores_every_byte(text: str, instead: bool) -> None:
    stack = stack_of(text, common_auth=COMMON)
    changed = service_edit.put(text, stack, OURS, instead=instead)
    assert changed != text
    assert len(stack_of(changed, common_auth=COMMON).ours) == 1
    assert service_edit.take_out(changed, IN_PIECES, {"/etc/pam.d/common-auth": COMMON}.get) == text


def test_instead__leaves_no_question_for_the_password() -> None:
    changed = service_edit.put(DEBIAN, stack_of(DEBIAN, common_auth=COMMON), OURS, instead=True)
    assert [line.name for line in stack_of(changed, common_auth=COMMON).of("auth")] == ["pam_softtoken.so"]


def test_take_out__knows_our_line_however_it_is_written() -> None:
    lines = [
        "auth required /usr/lib/security/pam_softtoken.so nullok\n",
        "-AUTH [success=ok default=die] pam_softtoken.so \\\n  window=2\n",
        "auth required pam_python.so /usr/lib/pam_softtoken/pam_softtoken/pam_module.py\n",
    ]
    others = "# pam_softtoken.so\nauth required pam_python.so /opt/x.py\n"
    assert service_edit.take_out("".join(lines) + others, IN_PIECES, lambda path: None) == others


def test_reader__a_bracket_that_nothing_closes_goes_to_the_end() -> None:
    (line,) = stack_of("auth required pam_x.so one [two three # four ]\n").of("auth")
    assert [word.strip() for word in line.arguments] == ["one", "two three"]


def test_enable__changes_no_service_that_stands_in_pam_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in /etc/pam.d would hide all other services of /etc/pam.conf."""
    monkeypatch.setattr(plan, "text_of", {"/etc/pam.conf": "sshd auth required pam_unix.so\n"}.get)
    with pytest.raises(AdministrationFailed, match=r"only services in /etc/pam\.d"):
        plan.require_service("sshd")
