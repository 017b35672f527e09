"""Our line in PAM service files: recognised by its module's file name, and removed without changing other lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from pam_softtoken.admin.common import finding
from pam_softtoken.pam import known_modules, service_edit, service_file
from pam_softtoken.pam.dialect import IN_PIECES, KNOWN, WHOLE_LINES, Dialect
from pam_softtoken.pam.jumps import CannotEdit
from pam_softtoken.pam.logical_lines import PIECE_BYTES
from pam_softtoken.pam.stack import Line

ODD_PLACES = (
    "auth required pam_exec.so /usr/lib/security/pam_softtoken.so\n"
    "auth required pam_permit.so pam_softtoken.so\n"
    "auth required pam_permit.so [pam_softtoken.so]\n"
    "auth [pam_softtoken.so] pam_permit.so\n"
    "auth required pam_softtoken.so.old\n"
    "auth required not_pam_softtoken.so\n"
    "auth required pam_softtoken.so/pam_permit.so\n"
    "auth required PAM_SOFTTOKEN.SO\n"
    "auth required pam_python.so /opt/pam_softtoken/pam_module.py\n"
    "auth required pam_python.so /opt/x.py /usr/lib/pam_softtoken/pam_module.py\n"
    "auth include pam_softtoken.so\n"
    "auth substack pam_softtoken.so\n"
    "pam_softtoken.so required pam_permit.so\n"
    "auth required pam_permit.so \\\n  pam_softtoken.so\n"
    "auth required pam_softtoken.so\r\n"
)
OURS = [
    "auth required pam_softtoken.so",
    "-Auth [success=ok default=die] /lib/security/pam_softtoken.so nullok # ours",
    "auth required \\\n\t[pam_softtoken.so] window=2",
    "auth required pam_python.so /usr/lib/pam_softtoken/pam_module.py",
    f"auth required pam_python.so {known_modules.OUR_PYTHON_FILES[0]} nullok",
    "account required pam_softtoken.so enrol",
]

NO_FILE: dict[str, str] = {}


def _ours(text: str, dialect: Dialect) -> int:
    stack = service_file.read("x", {"/etc/pam.d/x": text}.get, dialect)
    return sum(line.is_ours for line in stack.lines)


@pytest.mark.parametrize("dialect", KNOWN, ids=repr)
def test_reader__line_that_only_mentions_us_does_not_count_as_ours(dialect: Dialect) -> None:
    assert _ours(ODD_PLACES, dialect) == 0
    assert service_edit.take_out(ODD_PLACES, dialect, NO_FILE.get) == ODD_PLACES


@pytest.mark.parametrize("argument", ["[prompt=Your\tcode:]", "[prompt=Your code:]", "[\t]", "[[]", "[a\\]b c]", "a]b"])
def test_shown_line__is_read_as_the_line_that_it_shows(argument: str) -> None:
    """The doctor shows such lines, for an administrator to copy."""

    def read(text: str) -> Line:
        return service_file.read("x", {"/etc/pam.d/x": text}.get, WHOLE_LINES).lines[0]

    line = read(f"auth required pam_softtoken.so {argument} nullok\n")
    assert read(f"{finding.shown(line)}\n").arguments == line.arguments


@pytest.mark.parametrize("dialect", KNOWN, ids=repr)
@pytest.mark.parametrize("ours", OURS)
def test_take_out__removes_only_our_line(ours: str, dialect: Dialect) -> None:
    assert _ours(ours + "\n", dialect) == 1
    before, behind = ODD_PLACES.splitlines(keepends=True)[0], "session required pam_x.so"
    assert service_edit.take_out(f"{before}{ours}\n{behind}", dialect, NO_FILE.get) == before + behind


def test_reader__knows_our_python_file_by_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "otp.py").symlink_to(known_modules.OUR_PYTHON_FILES[0])
    (tmp_path / "pam_module.py").write_text("")
    assert _ours(f"auth required pam_python.so {tmp_path}/otp.py\n", IN_PIECES) == 1
    assert _ours(f"auth required pam_python.so {tmp_path}/pam_module.py\n", IN_PIECES) == 0


def test_take_out__leaves_a_physical_line_that_holds_another_line_as_well() -> None:
    """libpam up to 1.5 sees two lines. Removing ours would change the other one."""
    text = "auth required pam_softtoken.so".ljust(PIECE_BYTES) + "auth required pam_deny.so\n"
    assert _ours(text, IN_PIECES) == 1
    assert service_edit.take_out(text, IN_PIECES, NO_FILE.get) == text
    assert service_edit.take_out(text, WHOLE_LINES, NO_FILE.get) == ""


def test_without__takes_a_module_out_by_its_name_only() -> None:
    kept = "auth required pam_exec.so /lib/security/pam_rootok.so\n# pam_rootok.so\nauth required pam_unix.so\n"
    text = "auth sufficient pam_rootok.so\n" + kept
    assert service_edit.without(text, lambda line: line.name in known_modules.ROOT_ONLY, IN_PIECES, NO_FILE.get) == kept


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# " + "x" * 1021 + "auth sufficient pam_permit.so\nauth required pam_unix.so\n", "longer than 1023 bytes"),
        ("auth required pam_unix.so " + "x" * 1000 + "\n", "longer than 1023 bytes"),
        ("auth required pam_unix.so".ljust(1022) + "\\\n nullok\n", "libpam hangs"),
        ("auth required pam_unix.so\0\n", "a NUL byte"),
    ],
)
def test_reader__reports_lines_that_libpam_reads_differently(text: str, why: str) -> None:
    stack = service_file.read("x", {"/etc/pam.d/x": text}.get, IN_PIECES)
    assert any(why in str(problem) for problem in stack.problems)


OURS_ALONE = "auth required pam_softtoken.so\n"
JUMPS = {
    "[success=1 default=ignore]": "[success=ignore default=ignore]",
    "[success=2 default=ignore]": "[success=1 default=ignore]",
    "[success=ok default=3]": "[success=ok default=2]",
    "[default=1 success=2 user_unknown=3]": "[default=ignore success=1 user_unknown=2]",
    "[ success = 02 default= 1 ]": "[ success = 1 default= ignore ]",
    "[success=1 \\\n default=2]": "[success=ignore \\\n default=1]",
    "[success=9 default=ignore]": "[success=8 default=ignore]",
}


@pytest.mark.parametrize("dialect", KNOWN, ids=repr)
@pytest.mark.parametrize("control", JUMPS)
def test_take_out__shortens_each_jump_over_our_line(control: str, dialect: Dialect) -> None:
    behind = "auth optional pam_echo.so\nauth include three\nauth required pam_deny.so\n"
    text = f"auth {control} pam_x.so a=1 b=2\n{OURS_ALONE}{behind}"
    others = {"/etc/pam.d/three": "auth optional pam_echo.so\n" * 3}
    assert service_edit.take_out(text, dialect, others.get) == f"auth {JUMPS[control]} pam_x.so a=1 b=2\n{behind}"


@pytest.mark.parametrize(
    "front",
    [
        "auth [success=1 default=ignore] pam_x.so\nauth optional pam_echo.so\n",
        "auth [success=3 default=ignore] pam_x.so\nauth include three\n",
        "auth [success=1 default=ignore] pam_x.so\nauth substack three\n",
        "account [success=2 default=ignore] pam_x.so\naccount required pam_y.so\n",
        "auth substack hops\n",
    ],
)
def test_take_out__leaves_a_jump_that_ends_before_our_line(front: str) -> None:
    others = {
        "/etc/pam.d/three": "auth optional pam_echo.so\n" * 3,
        "/etc/pam.d/hops": "auth [success=9 default=ignore] pam_x.so\n",
    }
    assert service_edit.take_out(front + OURS_ALONE, IN_PIECES, others.get) == front


REFUSED = {
    "in another file": (
        "auth include one\n" + OURS_ALONE,
        "/etc/pam.d/one:1 jumps over",
    ),
    "comments become lines below it": (
        "auth [success=2 default=ignore] pam_x.so\n#softtoken-admin: auth required pam_unix.so\n"
        + OURS_ALONE
        + "auth required pam_deny.so\n",
        "line 1 jumps over",
    ),
    "comments become lines below it, and ours is further down": (
        "auth [success=1 default=ignore] pam_x.so\n#softtoken-admin: auth required pam_unix.so\n"
        "auth required pam_deny.so\n" + OURS_ALONE,
        "line 1 jumps over",
    ),
    "an odd spelling": (
        "auth [success=\\\n1 default=ignore] \\\n pam_x.so\n" + OURS_ALONE,
        "that this program does not know",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_take_out__refuses_a_jump_that_would_reach_another_line(name: str) -> None:
    text, why = REFUSED[name]
    others = {"/etc/pam.d/one": "auth [success=1 default=ignore] pam_x.so\n"}
    with pytest.raises(CannotEdit, match=why) as refusal:
        service_edit.take_out(text, IN_PIECES, others.get)
    assert refusal.value.hint.startswith("remove that jump from ")


FEDORA = {"/etc/pam.d/system-auth": "auth sufficient pam_unix.so\nauth required pam_deny.so\n"}


@pytest.mark.parametrize("dialect", KNOWN, ids=repr)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("auth include system-auth\nauth required pam_softtoken.so\n", "auth substack system-auth\n"),
        ("#\nauth\t include\tsystem-auth # include\n", "#\nauth\t substack\tsystem-auth # include\n"),
        # A substack counts otherwise than its lines for a jump over it.
        ("auth [success=1 default=ignore] pam_rootok.so\nauth include system-auth\n", ""),
    ],
)
def test_fence__keeps_an_included_file_from_ending_the_stack(before: str, after: str, dialect: Dialect) -> None:
    stack = service_file.read("sudo", {**FEDORA, "/etc/pam.d/sudo": before}.get, dialect)
    (line,) = (each for each in stack.of("auth") if each.name == "pam_unix.so")
    fenced = service_edit.fenced(before, stack, line.outermost)
    assert fenced.startswith(after or before)
    assert len(fenced.splitlines()) == len(before.splitlines())
