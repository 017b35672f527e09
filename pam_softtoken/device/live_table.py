"""The live table of `softtoken code`: show all codes with the seconds left, and search while the user types.

Only this module loads the library, prompt_toolkit. It handles the screen, the keys and the window's size. The clipboard
is the terminal's own (OSC 52). So it is the right one over ssh, too, and needs no other program.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pam_softtoken import platform_facts
from pam_softtoken.device.board import Board, Look
from pam_softtoken.device.entry import Entry
from pam_softtoken.device.vault import Vault
from pam_softtoken.otp import hotp
from pam_softtoken.otp.token import TOTPToken
from pam_softtoken.program_errors import ProgramError, VaultFailed
from pam_softtoken.ui import terminal

if TYPE_CHECKING:
    from prompt_toolkit.application import Application
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.output import Output

CLIPBOARD_S = 30
_REFRESH_S = 0.25
_ESCAPE_S = 0.05  # after this time, the next key is not part of an Esc sequence
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_COLOURS = {"time": "ansigreen", "hurry": "ansired", "cursor": ""}


def show(
    screen: terminal.Terminal,
    vault: Vault,
    entries: list[Entry],
    *,
    clock: Callable[[], float] = time.time,
    timer: Callable[[], float] = time.monotonic,
) -> None:
    """Show the table until the user leaves it. The screen is then restored.

    Args:
        clock: returns Unix seconds, for the codes.
        timer: returns seconds that do not follow changes of the clock, for the clipboard.

    Raises:
        VaultFailed: the library is missing.
    """
    try:
        from prompt_toolkit.output import create_output  # noqa: PLC0415
        from prompt_toolkit.utils import get_cwidth  # noqa: PLC0415
    except ImportError:
        raise VaultFailed(
            "the live table needs the prompt_toolkit library",
            hint=f"{platform_facts.install('prompt_toolkit', extra='device')}; "
            "softtoken code NAME shows one code without it",
        ) from None
    look = Look(width=get_cwidth, spell=screen.spell, blocks=screen.can_show_blocks())
    output = create_output()
    Table(vault, Board(entries, look), output, colour=screen.has_colour(), clock=clock, timer=timer).run()


class Clipboard:
    """The terminal's clipboard, with a limit on how long it holds our text.

    Args:
        output: the terminal.
        timer: as in `show`.
    """

    def __init__(self, output: Output, timer: Callable[[], float]) -> None:
        self._output = output
        self._timer = timer
        self._until: float | None = None

    def put(self, text: str) -> None:
        """Copy a text."""
        self._send(text)
        self._until = self._timer() + CLIPBOARD_S

    def clear_when_due(self) -> bool:
        """Clear the clipboard if its time is over. Return whether that happened now."""
        is_due = self._until is not None and self._timer() >= self._until
        if is_due:
            self.clear()
        return is_due

    def clear(self) -> None:
        """Remove our text from the clipboard, if it was put there."""
        if self._until is not None:
            self._until = None
            # Some terminals clear on an empty text, and others ignore one. Those are left with a space.
            self._send(" ")
            self._send("")

    def _send(self, text: str) -> None:
        sequence = f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"
        self._output.write_raw(sequence)
        if os.environ.get("TMUX"):
            # tmux uses the sequence itself (set-clipboard), or passes this wrapping on (allow-passthrough). Its
            # settings decide. It ignores the form that is not enabled.
            self._output.write_raw("\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\")
        self._output.flush()


class Table:
    """The table on a terminal.

    Args:
        vault: open. HOTP counters advance there.
        board: what is shown.
        output: the terminal.
        colour: whether colours may be used.
        clock, timer: as in `show`.
    """

    def __init__(
        self,
        vault: Vault,
        board: Board,
        output: Output,
        *,
        colour: bool,
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        self._vault = vault
        self._board = board
        self._output = output
        self._colour = colour
        self._clock = clock
        self._clipboard = Clipboard(output, timer)

    def run(self) -> None:
        """Show the table until the user leaves, a signal comes, or the terminal is gone."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            asyncio.run(self._run(self._application()))
        except (EOFError, OSError):
            pass  # the terminal is gone
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            try:
                self._clipboard.clear()
            except OSError:
                pass

    async def _run(self, application: Application[None]) -> None:
        loop = asyncio.get_running_loop()

        def leave() -> None:
            if application.is_running:
                application.exit()

        for number in _SIGNALS:
            loop.add_signal_handler(number, leave)
        with terminal.interruptible():
            await application.run_async(handle_sigint=False)

    def _application(self) -> Application[None]:
        from prompt_toolkit.application import Application  # noqa: PLC0415
        from prompt_toolkit.layout import FormattedTextControl, Layout, Window  # noqa: PLC0415
        from prompt_toolkit.output import ColorDepth  # noqa: PLC0415
        from prompt_toolkit.styles import Style  # noqa: PLC0415

        control = FormattedTextControl(self._fragments, focusable=True)
        application: Application[None] = Application(
            layout=Layout(Window(control, always_hide_cursor=False)),
            key_bindings=self._keys(),
            style=Style([(name, value) for name, value in _COLOURS.items() if self._colour]),
            color_depth=ColorDepth.DEPTH_4_BIT if self._colour else ColorDepth.DEPTH_1_BIT,
            output=self._output,
            full_screen=True,
            refresh_interval=_REFRESH_S,
            before_render=lambda _: self._tidy(),
        )
        application.ttimeoutlen = _ESCAPE_S
        return application

    def _tidy(self) -> None:
        if self._clipboard.clear_when_due():
            self._board.message = ""

    def _fragments(self) -> StyleAndTextTuples:
        size = self._output.get_size()
        result: StyleAndTextTuples = []
        for line in self._board.draw(size.columns, size.rows, now=int(self._clock())):
            result += [("", "\n")] if result else []
            result += [
                ("[SetCursorPosition]", "") if style == "cursor" else (_spelt(style), text) for style, text in line
            ]
        return result

    def _keys(self) -> KeyBindings:
        from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415
        from prompt_toolkit.keys import Keys  # noqa: PLC0415

        keys = KeyBindings()
        board = self._board

        def on(*names: str | Keys) -> Callable[[Callable[[KeyPressEvent], None]], None]:
            def bind(act: Callable[[KeyPressEvent], None]) -> None:
                for name in names:
                    keys.add(name, eager=True)(act)

            return bind

        on(Keys.Escape, Keys.ControlC, Keys.ControlD)(lambda event: event.app.exit())
        on(Keys.Up, Keys.ControlP)(lambda event: board.move(-1))
        on(Keys.Down, Keys.ControlN, Keys.Tab)(lambda event: board.move(1))
        on(Keys.PageUp)(lambda event: board.move(-board.rows))
        on(Keys.PageDown)(lambda event: board.move(board.rows))
        on(Keys.Home)(lambda event: board.move(-(10**9)))
        on(Keys.End)(lambda event: board.move(10**9))
        on(Keys.Backspace)(lambda event: board.search_for(board.search[:-1]))
        on(Keys.ControlU, Keys.ControlW)(lambda event: board.search_for(""))
        on(Keys.Enter)(lambda event: self._copy())

        @keys.add(Keys.Any)
        @keys.add(Keys.BracketedPaste)
        def _type(event: KeyPressEvent) -> None:
            board.search_for(board.search + event.data)

        return keys

    def _copy(self) -> None:
        """Copy the code of the chosen entry. A counter-based entry advances now."""
        entry = self._board.chosen
        if entry is None:
            return
        try:
            if isinstance(entry.token, TOTPToken):
                code = entry.token.otp_at(hotp.time_step(int(self._clock()), entry.token.period_s))
            else:
                code = self._vault.next_code(entry)
                self._board.keep(code)
        except ProgramError as error:
            self._board.message = terminal.visible(error.message)
            return
        self._clipboard.put(code)
        self._board.message = f"Copied; cleared after {CLIPBOARD_S} s"


def _spelt(style: str) -> str:
    """Return a style that this prompt_toolkit knows. Older releases lack `dim`, and nothing depends on it."""
    words = {"reverse": "reverse", "bold": "bold", "time": "class:time", "hurry": "class:hurry"}
    return " ".join(words[word] for word in style.split() if word in words)
