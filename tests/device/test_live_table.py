"""Show the live table in a terminal whose screen is captured, with a clock that stands still until it is set."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pam_softtoken.device.board import Board, Look
from pam_softtoken.device.entry import Entry
from pam_softtoken.device.vault import Vault
from pam_softtoken.otp.token import HOTPToken
from tests.support.device import CHEAP, PASSPHRASE, PROGRAM, RFC_HOTP, Device, hotp, totp, write_vault
from tests.support.installation import TREE
from tests.support.process import processes, wait_until
from tests.support.tmux import Window

_SCRIPT = f"""\
import sys
sys.path.insert(0, {str(TREE)!r})
from pathlib import Path
from pam_softtoken.ui import terminal
from pam_softtoken.device import live_table
from pam_softtoken.device.sealing import Cost
from pam_softtoken.device.vault import Vault
vault = Vault(sys.argv[1], cost=Cost(*{tuple(CHEAP)!r}))
entries = vault.open({PASSPHRASE.encode()!r})
clock = lambda: float(Path(sys.argv[2]).read_text())
timer = lambda: float(Path(sys.argv[3]).read_text())
sys.exit(terminal.run("softtoken", lambda screen: live_table.show(screen, vault, entries, clock=clock, timer=timer)))
"""
ENTRIES = (
    totp("alice", issuer="myhost", digits=8),
    totp("日本銀行 🔑", issuer="Bank"),
    hotp("counts"),
    totp("a name that is far too long for a narrow terminal", digits=8),
)
HINT = "Type to search, Enter copies, Esc leaves"
# RFC 6238, appendix B: at 59 s the code of 8 digits is 94287082, at 1111111109 s it is 07081804.
AT_59_WIDE = """\
Search:                                                                   4 of 4

> alice  (myhost)                                    9428 7082  █░░░░░░░░░   1 s
  日本銀行 🔑  (Bank)                                  287 082  █░░░░░░░░░   1 s
  counts                                                  press Enter for a code
  a name that is far too long for a narrow terminal  9428 7082  █░░░░░░░░░   1 s
"""
AT_59_NARROW = """\
Search:                           4 of 4

> alice           9428 7082  █░░░░   1 s
  日本銀行 🔑       287 082  █░░░░   1 s
  counts          press Enter for a code
  a name that i…  9428 7082  █░░░░   1 s"""


class Stage:
    """The table in a window.

    Args:
        window: the terminal window.
        clock, timer: files with the time that the table sees.
        path: the path of the vault.
    """

    def __init__(self, window: Window, *, clock: Path, timer: Path, path: Path) -> None:
        self.window = window
        self.path = path
        self._clock, self._timer = clock, timer

    def set_clock(self, now: int) -> None:
        """Set the clock."""
        _write(self._clock, now)

    def let_pass(self, seconds: float) -> None:
        """Advance the timer of the clipboard, in seconds."""
        _write(self._timer, float(self._timer.read_text()) + seconds)

    def counter(self) -> int:
        """Return the counter of the counter-based entry on the disk."""
        tokens = [entry.token for entry in Vault(str(self.path)).open(PASSPHRASE.encode())]
        return next(token.counter for token in tokens if isinstance(token, HOTPToken))


def _write(file: Path, value: float) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(str(value))
    fresh.rename(file)


@contextmanager
def _stage(
    tmp_path: Path,
    *entries: Entry,
    size: tuple[int, int] = (80, 24),
    environment: dict[str, str] | None = None,
    now: int = 59,
) -> Iterator[Stage]:
    path, clock, timer = tmp_path / "softtoken" / "vault", tmp_path / "clock", tmp_path / "timer"
    write_vault(path, entries or ENTRIES)
    _write(clock, now)
    _write(timer, 1000.0)
    words = {"LC_ALL": "C.UTF-8", **(environment or {})}
    shell = 'echo one; echo two; "$@"; echo "left with $?"; exec sleep 1000'
    program: list[str | Path] = [sys.executable, "-I", "-c", _SCRIPT, path, clock, timer]
    with Window(["sh", "-c", shell, "sh", *program], size=size, environment=words) as window:
        stage = Stage(window, clock=clock, timer=timer, path=path)
        window.wait_for("Search:")
        yield stage


def _wide(text: str) -> str:
    """Return a screen of 24 lines with the help in the last line."""
    return text.rstrip("\n") + "\n" * (24 - len(text.rstrip("\n").split("\n"))) + HINT


def test_table__is_this_at_80_by_24(tmp_path: Path) -> None:
    with _stage(tmp_path) as stage:
        stage.window.wait_for_screen(_wide(AT_59_WIDE))


def test_table__is_this_at_40_by_10(tmp_path: Path) -> None:
    with _stage(tmp_path, size=(40, 10)) as stage:
        stage.window.wait_for_screen(AT_59_NARROW + "\n\n\n\n" + HINT)


def test_table__follows_the_window_to_another_size_and_back(tmp_path: Path) -> None:
    with _stage(tmp_path) as stage:
        stage.window.wait_for(HINT)
        stage.window.resize(40, 10)
        stage.window.wait_for_screen(AT_59_NARROW + "\n\n\n\n" + HINT)
        stage.window.resize(80, 24)
        stage.window.wait_for_screen(_wide(AT_59_WIDE))


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 3), (200, 60)])
def test_table__codes_change_in_place_with_the_clock(tmp_path: Path, size: tuple[int, int]) -> None:
    with _stage(tmp_path, ENTRIES[0], size=size) as stage:
        stage.window.wait_for("9428 7082" if size[0] > 20 else "9428")
        stage.set_clock(1111111109)
        screen = stage.window.wait_for("0708 1804" if size[0] > 20 else "0708")
        assert "9428" not in screen


def test_search__keeps_entries_whose_name_or_issuer_matches(tmp_path: Path) -> None:
    with _stage(tmp_path, size=(40, 10)) as stage:
        stage.window.type("HOST")
        stage.window.wait_for_screen(
            f"Search: HOST                      1 of 4\n\n> alice           9428 7082  █░░░░   1 s\n\n\n\n\n\n\n{HINT}"
        )
        stage.window.press("BSpace", "BSpace", "BSpace", "BSpace")
        stage.window.wait_for("4 of 4")
        stage.window.type("日本")
        assert "287 082" in stage.window.wait_for("1 of 4")
        stage.window.press("C-u")
        stage.window.wait_for("4 of 4")
        stage.window.type("zzz")
        assert "No name or issuer has that in it." in stage.window.wait_for("0 of 4")
        stage.window.press("Enter", "Down", "Up", "PPage", "NPage")
        stage.window.press("C-u")
        stage.window.wait_for("4 of 4")


def test_arrows__scroll_through_more_entries_than_lines(tmp_path: Path) -> None:
    entries = [totp(f"entry {number:02}", bytes([number]) * 20) for number in range(50)]
    with _stage(tmp_path, *entries, size=(40, 10)) as stage:
        stage.window.wait_for("> entry 00")
        stage.window.press(*["Down"] * 7)
        screen = stage.window.wait_for("> entry 07")
        assert [line[2:10] for line in screen.split("\n")[2:8]] == [f"entry {number:02}" for number in range(2, 8)]
        stage.window.press("End")
        stage.window.wait_for("> entry 49")
        stage.window.press("Down", "PPage")
        stage.window.wait_for("> entry 43")
        stage.window.press("Home", "Up")
        stage.window.wait_for("> entry 00")


def test_enter__copies_and_the_clipboard_is_cleared_after_30_s(tmp_path: Path) -> None:
    with _stage(tmp_path) as stage:
        stage.window.wait_for(HINT)
        assert stage.window.clipboard() == ""
        stage.window.press("Enter")
        stage.window.wait_for("Copied; cleared after 30 s")
        stage.window.wait_for_clipboard("94287082")
        stage.let_pass(29.9)
        stage.set_clock(1111111109)
        stage.window.wait_for("0708 1804")  # it was drawn again, after a check of the time
        assert stage.window.clipboard() == "94287082"
        stage.let_pass(0.1)
        stage.window.wait_for_clipboard(" ")  # tmux ignores the empty text that follows
        stage.window.wait_for(HINT)


@pytest.mark.parametrize("key", ["Escape", "C-c"])
def test_leaving__clears_the_clipboard_and_restores_the_screen(tmp_path: Path, key: str) -> None:
    with _stage(tmp_path) as stage:
        stage.window.press("Enter")
        stage.window.wait_for_clipboard("94287082")
        assert stage.window.fact("alternate_on") == "1"
        stage.window.press(key)
        stage.window.wait_for_screen("one\ntwo\nleft with 0")
        stage.window.wait_for_clipboard(" ")
        assert (stage.window.fact("alternate_on"), stage.window.fact("cursor_flag")) == ("0", "1")


def test_leaving__without_having_copied_leaves_the_clipboard_alone(tmp_path: Path) -> None:
    with _stage(tmp_path) as stage:
        stage.window.wait_for(HINT)
        stage.window.press("Escape")
        stage.window.wait_for_screen("one\ntwo\nleft with 0")
        assert stage.window.clipboard() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal__clears_the_clipboard_and_restores_the_screen(tmp_path: Path, number: signal.Signals) -> None:
    with _stage(tmp_path) as stage:
        stage.window.press("Enter")
        stage.window.wait_for_clipboard("94287082")
        (program,) = [
            each.pid
            for each in processes()
            if str(stage.path) in each.command and each.command.startswith(sys.executable)
        ]
        os.kill(program, number)
        stage.window.wait_for_screen("one\ntwo\nleft with 0")
        stage.window.wait_for_clipboard(" ")


def test_hotp__counts_only_at_enter_and_never_shows_a_code_twice(tmp_path: Path) -> None:
    with _stage(tmp_path) as stage:
        stage.window.wait_for("press Enter for a code")
        stage.window.press("Down", "Down")
        stage.window.wait_for("> counts")
        assert stage.counter() == 0
        for number in range(3):
            stage.window.press("Enter")
            stage.window.wait_for_clipboard(RFC_HOTP[number])
            stage.window.wait_for(f"{RFC_HOTP[number][:3]} {RFC_HOTP[number][3:]}")
            assert stage.counter() == number + 1
        assert "press Enter for a code" not in stage.window.screen()


def test_hotp__code_is_not_shown_if_it_cannot_be_stored(tmp_path: Path) -> None:
    with _stage(tmp_path) as stage:
        stage.window.press("Down", "Down")
        stage.window.wait_for("> counts")
        stage.path.rename(stage.path.with_name("elsewhere"))
        stage.window.press("Enter")
        screen = stage.window.wait_for("there is no vault")
        assert "press Enter for a code" in screen
        assert "755 224" not in screen
        assert stage.window.clipboard() == ""


def _colours(screen: str) -> set[str]:
    """Return the parameters of the colours in a captured screen (ECMA-48, 8.3.117)."""
    parameters = {each for found in re.findall(r"\x1b\[([0-9;]*)m", screen) for each in found.split(";")}
    return {each for each in parameters if each.isdecimal() and 30 <= int(each) <= 107 and each not in ("39", "49")}


def test_no_color__is_honoured(tmp_path: Path) -> None:
    for name, is_coloured in (("coloured", True), ("plain", False)):
        directory = tmp_path / name
        directory.mkdir()
        with _stage(directory, environment={} if is_coloured else {"NO_COLOR": "1"}) as stage:
            stage.window.wait_for_screen(_wide(AT_59_WIDE))
            assert bool(_colours(stage.window.screen(colours=True))) == is_coloured


def test_copying__goes_through_tmux_in_both_ways_it_can_be_set_to(device: Device) -> None:
    device.hold(hotp("alice"))
    device.environment["TMUX"] = "/tmp/tmux-0/default,1,0"
    with device.start("code") as person:
        person.expect("Passphrase of the vault: ")
        person.type(PASSPHRASE)
        person.expect("press Enter for a")
        person.type("")
        code = "NzU1MjI0"  # base64 of 755224
        person.expect(f"\x1b]52;c;{code}\x07")
        person.expect(f"\x1bPtmux;\x1b\x1b]52;c;{code}\x07\x1b\\")
        person.press_control("c")
        person.expect("\x1b]52;c;\x07")
        assert person.finish() == 0


def test_program__shows_the_table_on_a_terminal_and_a_window_that_closes_ends_it(device: Device) -> None:
    device.hold(*ENTRIES)
    with device.start("code") as person:
        person.expect("Passphrase of the vault: ")
        person.type(PASSPHRASE)
        person.expect("Esc leaves")
        person.hang_up()
        wait_until(
            lambda: not any(str(PROGRAM[-1]) in each.command and each.pid == person.pid for each in processes()),
            "its end",
        )


def test_board__needs_no_block_characters() -> None:
    look = Look(width=len, spell=lambda text: text.encode("ascii", "backslashreplace").decode(), blocks=False)
    board = Board(ENTRIES[:2], look)
    lines = ["".join(text for _, text in line) for line in board.draw(80, 8, now=59)]
    assert "".join(lines).isascii()
    assert lines[2].endswith("9428 7082  #.........   1 s")


@pytest.mark.parametrize("columns", range(1, 90, 7))
@pytest.mark.parametrize("lines", [1, 2, 3, 7, 8, 30])
def test_board__fits_into_any_size(columns: int, lines: int) -> None:
    board = Board(ENTRIES, Look(width=len, spell=str, blocks=True))
    assert len(board.draw(columns, lines, now=59)) <= lines
