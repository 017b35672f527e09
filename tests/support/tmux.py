"""A terminal window with a person in front of it. tmux keeps the screen, so that its content can be compared."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.process import wait_until


class Window:
    """A window of its own tmux server. Use it in a `with` block.

    Args:
        command: the command that runs there. The window stays when it has ended.
        size: columns and lines.
        environment: of the command.
    """

    def __init__(
        self, command: Sequence[str | Path], *, size: tuple[int, int] = (80, 24), environment: Mapping[str, str]
    ) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._socket = f"{self._directory.name}/tmux"
        columns, lines = size
        words = [f"{name}={value}" for name, value in environment.items()]
        line = shlex.join(["env", *words, *map(str, command)])
        self._tmux(
            "-f", "/dev/null", "start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";",
            "set-option", "-g", "remain-on-exit-format", "", ";", "set-option", "-s", "set-clipboard", "on", ";",
            "new-session", "-d", "-x", str(columns), "-y", str(lines), line,
        )  # fmt: skip

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *details: object) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)
        self._directory.cleanup()

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-u", "-S", self._socket, *words], check=True, capture_output=True, text=True)
        return done.stdout

    def screen(self, *, colours: bool = False) -> str:
        """Return the content of the screen, without trailing spaces and empty lines."""
        text = self._tmux("capture-pane", "-p", *(["-e"] if colours else []))
        return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")

    def wait_for(self, text: str) -> str:
        """Wait until a text appears anywhere on the screen. Return the whole screen."""
        self._wait(lambda: text in self.screen(), text)
        return self.screen()

    def wait_for_screen(self, whole: str) -> None:
        """Wait until the screen has exactly this content."""
        self._wait(lambda: self.screen() == whole, whole)

    def _wait(self, condition: object, what: str) -> None:
        assert callable(condition)
        try:
            wait_until(condition, what, within_s=30)
        except AssertionError as error:
            raise AssertionError(f"{error}\nthe screen is:\n{self.screen()}") from None

    def press(self, *keys: str) -> None:
        """Press keys. They have tmux's names."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type a text as it is."""
        self._tmux("send-keys", "-l", text)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the window."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def clipboard(self) -> str:
        """Return the text that was copied last, "" if none was."""
        command = ["tmux", "-S", self._socket, "show-buffer"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    def wait_for_clipboard(self, text: str) -> None:
        """Wait until this text was copied last."""
        self._wait(lambda: self.clipboard() == text, f"{text!r} in the clipboard")

    def fact(self, name: str) -> str:
        """Return one of tmux's facts about the window, such as `cursor_flag`."""
        return self._tmux("display-message", "-p", f"#{{{name}}}").strip()
