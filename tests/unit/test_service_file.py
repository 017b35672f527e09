"""Service files at the limits of libpam: where it looks, what it gives up, and how deep it goes."""

from __future__ import annotations

import pytest

from pam_softtoken.pam import jumps, service_file
from pam_softtoken.pam.dialect import IN_PIECES, KNOWN, WHOLE_LINES, Dialect
from pam_softtoken.pam.logical_lines import PIECE_BYTES
from pam_softtoken.pam.stack import Place, Stack

UNIX = "auth required pam_unix.so\n"
DENY = "auth required pam_deny.so\naccount required pam_deny.so\n"


def _read(files: dict[str, str], dialect: Dialect = IN_PIECES) -> Stack:
    return service_file.read("sshd", {f"/etc/{name}": text for name, text in files.items()}.get, dialect)


def _lines(stack: Stack) -> list[str]:
    return [f"{line.place} {line.kind} {line.module}" for line in stack.lines]


@pytest.mark.parametrize("dialect", KNOWN, ids=repr)
def test_pam_conf__counts_if_no_directory_exists(dialect: Dialect) -> None:
    one_file = f"sshd {UNIX}login auth required pam_permit.so\nother {UNIX}OTHER account required pam_deny.so\n"
    stack = _read({"pam.conf": one_file}, dialect)
    assert _lines(stack) == ["/etc/pam.conf:1 auth pam_unix.so", "/etc/pam.conf:4 account pam_deny.so"]
    assert (stack.file, stack.problems, stack.is_given_up) == ("/etc/pam.conf", (), False)
    empty = _read({"pam.conf": one_file, "pam.d": ""}, dialect)
    assert (_lines(empty), empty.file) == ([], "")
    other = _read({"pam.conf": one_file, "pam.d": "", "pam.d/other": UNIX}, dialect)
    assert _lines(other) == ["/etc/pam.d/other:1 auth pam_unix.so"]


@pytest.mark.parametrize(
    "text",
    [f"sshd {UNIX}sshd auth required ?\n", f"sshd {UNIX}sshd auth required \\\n", f"sshd {UNIX}sshd @include x\n"],
)
def test_pam_conf__abandoned_by_libpam_is_abandoned_by_the_reader(text: str) -> None:
    assert _read({"pam.conf": text}).is_given_up


def test_other__has_the_lines_of_the_types_that_a_service_lacks() -> None:
    assert _lines(_read({"pam.d/sshd": UNIX, "pam.d/other": DENY})) == [
        "/etc/pam.d/sshd:1 auth pam_unix.so",
        "/etc/pam.d/other:2 account pam_deny.so",
    ]


def test_other__faults_concern_only_services_that_need_the_line_unless_libpam_gives_up() -> None:
    needless = _read({"pam.d/sshd": UNIX, "pam.d/other": "auth nonsense pam_deny.so\n"})
    assert (needless.problems, needless.is_given_up) == ((), False)
    needed = _read({"pam.d/sshd": UNIX, "pam.d/other": "account nonsense pam_deny.so\n"})
    assert [str(each) for each in needed.problems] == ['/etc/pam.d/other:1: "nonsense" is not a control']
    given_up = _read({"pam.d/sshd": UNIX, "pam.d/other": "auth required ?\n"})
    assert [str(each) for each in given_up.problems] == ['/etc/pam.d/other:1: "?" is not the name of a module']
    assert given_up.is_given_up


@pytest.mark.parametrize("dialect", [IN_PIECES, WHOLE_LINES], ids=repr)
def test_include__of_a_missing_file_fails_the_line_and_without_a_type_the_service(dialect: Dialect) -> None:
    for control in ("include", "substack"):
        typed = _read({"pam.d/sshd": f"auth {control} missing\n{UNIX}"}, dialect)
        assert not typed.is_given_up
        assert [line.is_broken for line in typed.lines if not line.is_substack] == [True, False]
    assert _read({"pam.d/sshd": f"@include missing\n{UNIX}"}, dialect).is_given_up


def test_include__counts_to_the_sixteen_levels_as_in_libpam() -> None:
    files = {f"pam.d/{level}": f"auth include {level + 1}\n" for level in range(1, 15)} | {"pam.d/15": UNIX}
    deepest = _read(files | {"pam.d/sshd": "auth include 1\n"}, WHOLE_LINES)
    assert _lines(deepest) == ["/etc/pam.d/15:1 auth pam_unix.so"]
    too_deep = _read(files | {"pam.d/sshd": "auth include 0\n", "pam.d/0": "auth include 1\n"}, WHOLE_LINES)
    assert [line.is_broken for line in too_deep.lines] == [True]
    assert _lines(_read(files | {"pam.d/sshd": "auth include 0\n", "pam.d/0": "auth include 1\n"})) == _lines(deepest)


@pytest.mark.parametrize("dialect", KNOWN, ids=repr)
def test_include__of_itself_twice_comes_to_an_end(dialect: Dialect) -> None:
    stack = _read({"pam.d/sshd": "auth include sshd\n" * 2}, dialect)
    assert "too deep" in stack.problems[0].why
    assert 0 < len(stack.lines) <= 1001


def test_include__inside_another_belongs_to_the_line_of_the_service_itself() -> None:
    files = {"pam.d/sshd": f"{DENY}auth include one\n", "pam.d/one": f"{DENY}auth include two\n", "pam.d/two": UNIX}
    line = _read(files).of("auth")[-1]
    assert (line.name, str(line.outermost)) == ("pam_unix.so", "/etc/pam.d/sshd:3")
    assert [str(place) for place in line.via] == ["/etc/pam.d/sshd:3", "/etc/pam.d/one:3"]


@pytest.mark.parametrize("dialect", [IN_PIECES, WHOLE_LINES], ids=repr)
def test_line__that_the_end_of_the_file_continues_is_given_up(dialect: Dialect) -> None:
    stack = _read({"pam.d/sshd": f"{UNIX}auth required \\\n"}, dialect)
    assert stack.is_given_up
    assert [str(each.place) for each in stack.problems] == ["/etc/pam.d/sshd:2"]


def test_line__at_which_libpam_hangs_is_given_up() -> None:
    assert _read({"pam.d/sshd": UNIX.strip().ljust(PIECE_BYTES - 1, "x") + f"\\\n{UNIX}"}).is_given_up


@pytest.mark.parametrize("dialect", [IN_PIECES, WHOLE_LINES], ids=repr)
def test_line__is_not_continued_by_a_backslash_in_a_comment(dialect: Dialect) -> None:
    stack = _read({"pam.d/sshd": f"auth required pam_env.so # no \\\n{UNIX}"}, dialect)
    assert [line.name for line in stack.of("auth")] == ["pam_env.so", "pam_unix.so"]


def test_line__with_a_nul_byte_is_named() -> None:
    stack = _read({"pam.d/sshd": f"{UNIX}{UNIX.strip()} \0\n"})
    assert [str(each.place) for each in stack.problems] == ["/etc/pam.d/sshd:2"]


def test_place__is_the_same_for_the_same_line_of_the_same_file_only() -> None:
    assert Place("/a", 3) == Place("/a", 3, 5)
    assert Place("/a", 3) != Place("/a", 4)
    assert Place("/a", 3) != Place("/b", 3)
    assert (Place("/a", 3).last, Place("/a", 3, 5).last) == (3, 5)


def test_over__names_the_lines_that_hop_over_another() -> None:
    stack = _read({"pam.d/sshd": f"auth [success=1 default=ignore] pam_unix.so\n{DENY}auth required pam_permit.so\n"})
    hopping, hopped, landing = stack.of("auth")
    assert jumps.over(stack.of("auth"), hopped) == [hopping]
    assert jumps.over(stack.of("auth"), landing) == []


@pytest.mark.parametrize("line", ["auth", "auth required", "auth [success=ok", "auth [success=ok pam_unix.so"])
@pytest.mark.parametrize("dialect", KNOWN, ids=repr)
def test_line__without_control_or_module_is_broken_and_the_next_one_counts(line: str, dialect: Dialect) -> None:
    stack = _read({"pam.d/sshd": f"{line}\n{UNIX}"}, dialect)
    assert not stack.is_given_up
    assert [each.is_broken for each in stack.lines] == [True, False]
    assert str(stack.problems[-1]) == "/etc/pam.d/sshd:1: the control or the module is missing"


@pytest.mark.parametrize("target", ["?", "/", "/lib/.so"])
def test_substack__without_a_name_is_given_up(target: str) -> None:
    stack = _read({"pam.d/sshd": f"{UNIX}auth substack {target}\n"})
    assert stack.is_given_up
    assert str(stack.problems[0]) == f'/etc/pam.d/sshd:2: "{target}" is not the name of a substack'


def test_include__of_a_file_at_which_libpam_hangs_is_given_up() -> None:
    hanging = UNIX.strip().ljust(PIECE_BYTES - 1, "x") + f"\\\n{UNIX}"
    stack = _read({"pam.d/sshd": f"auth include one\n{UNIX}", "pam.d/one": hanging})
    assert stack.is_given_up
    assert {str(each.place) for each in stack.problems} == {"/etc/pam.d/one:1"}


@pytest.mark.parametrize("dialect", [IN_PIECES, WHOLE_LINES], ids=repr)
def test_line__has_its_number_below_any_other_lines(dialect: Dialect) -> None:
    stack = _read({"pam.d/sshd": f"\n# a comment\n{UNIX}auth required \\\n pam_deny.so\n"}, dialect)
    assert [(str(line.place), line.last) for line in stack.lines] == [
        ("/etc/pam.d/sshd:3", 3),
        ("/etc/pam.d/sshd:4", 5),
    ]
    assert stack.problems == ()


def test_pam_conf__names_the_line_that_cannot_be_read() -> None:
    stack = _read({"pam.conf": f"sshd {UNIX}sshd auth required \\\n"})
    assert [str(each.place) for each in stack.problems] == ["/etc/pam.conf:2"]


def test_other__as_a_service_has_its_lines_twice() -> None:
    stack = service_file.read("other", {"/etc/pam.d/other": DENY}.get, IN_PIECES)
    assert [line.kind for line in stack.lines] == ["auth", "account"] * 2
