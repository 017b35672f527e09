"""The line in sudo.conf, as text."""

from __future__ import annotations

import random

import pytest

from pam_softtoken.signing import sudo_conf
from tests.support.sudo_confs import LINE, WITH_OURS, WITHOUT_OURS


@pytest.mark.parametrize("text", WITH_OURS.values(), ids=WITH_OURS)
def test_line__of_ours_is_found_and_taken_out_however_it_is_spelled(text: str) -> None:
    assert sudo_conf.asks(text)
    left = sudo_conf.without_lines(text)
    assert not sudo_conf.asks(left)
    assert "softtoken" not in left


@pytest.mark.parametrize("text", WITHOUT_OURS.values(), ids=WITHOUT_OURS)
def test_line__that_sudo_does_not_read_as_ours_stays(text: str) -> None:
    assert not sudo_conf.asks(text)
    assert sudo_conf.without_lines(text) == text


def test_line__with_our_file_and_another_symbol_is_ours_because_sudo_needs_the_file() -> None:
    assert sudo_conf.asks("Plugin other /opt/softtoken_approval.so\n")
    assert sudo_conf.without_lines("Plugin other softtoken_approval.so\n# x\n") == "# x\n"
    assert not sudo_conf.asks("Plugin other not_softtoken_approval.so\n")


def test_required__is_an_option_of_our_first_line() -> None:
    assert sudo_conf.requires("Plugin softtoken_approval softtoken_approval.so a \\\n required\n")
    assert not sudo_conf.requires(LINE)
    assert not sudo_conf.requires(LINE + LINE.rstrip() + " required\n")
    assert not sudo_conf.requires("Plugin softtoken_approval softtoken_approval.so # required\n")
    assert not sudo_conf.requires("Plugin sudoers_policy sudoers.so required\n")


PIECES = [
    *WITHOUT_OURS.values(),
    "\\",
    "\\\n",
    "\n",
    " ",
    "#",
    "\r\n",
    "\r",
    "Plugin a b.so\n",
    "Plugin a",
    "\t\\\n",
    "\0",
]


def test_with_line__is_read_by_sudo_and_taken_out_without_a_trace() -> None:
    chance = random.Random(18)
    for _ in range(20_000):
        text = "".join(chance.choices(PIECES, k=chance.randrange(6)))
        if sudo_conf.asks(text):
            continue
        for required in (False, True):
            new = sudo_conf.with_line(text, required=required, directory="/p")
            assert sudo_conf.asks(new), text
            assert sudo_conf.requires(new) is required, text
            assert sudo_conf.without_lines(new) == text


def test_with_line__replaces_all_lines_of_ours() -> None:
    before = "# a\n" + LINE + "Set x y\n" + "plugin softtoken_approval /opt/x.so required\n"
    assert sudo_conf.with_line(before, required=False, directory="/p") == "# a\nSet x y\n" + LINE


def test_with_line__names_the_directory_if_sudo_looks_elsewhere() -> None:
    for before in ("path Plugin_Dir /a\n", "Path plugin_dir\n"):
        line = "Plugin softtoken_approval /p/softtoken_approval.so required\n"
        assert sudo_conf.with_line(before, required=True, directory="/p") == before + line
    assert sudo_conf.with_line("# Path plugin_dir /a\n", required=False, directory="/p").endswith(f"\n{LINE}")


@pytest.mark.parametrize(
    ("mode", "uid", "ignored"), [(0o644, 0, False), (0o664, 0, True), (0o646, 0, True), (0o644, 1, True)]
)
def test_file__that_others_could_change_is_ignored_as_sudo_does(mode: int, uid: int, ignored: bool) -> None:
    assert sudo_conf.is_ignored(mode, uid) is ignored
