"""The first frame of sudo's plugin, and the verdicts. `bridge/softtoken_approval.c` has the other half, and `wire` the
frames in between. Does no I/O.

START has everything that sudo tells the plugin, as texts that end with NUL. The first character of each says what it
is: an option of the plugin, a setting, a fact about the caller, a fact about the command, an argument, or a variable.
Source: sudo_plugin(5).
"""

from __future__ import annotations

from pam_softtoken.bridge import wire
from pam_softtoken.errors import ProtocolError

MAX_START_BYTES = 64 * 1024
NOT_SIGNED, SIGNED, SIGNATURE_REQUIRED, TOO_LONG, NOT_CHECKED = 0, 1, 2, 3, 4
_WAIT = b"W"
_MAX_WAIT_S = 255


class Start:
    """What sudo is about to do, and for whom.

    Texts are bytes of the host, decoded as UTF-8 with `surrogateescape`.

    Attributes:
        options: of the plugin.
        settings: each `NAME=value`.
        user_info, command_info: facts by name, see sudo_plugin(5).
        argv: the arguments of the command, its name first.
        env: its whole environment, `NAME=value` each.
    """

    __slots__ = ("argv", "command_info", "env", "options", "settings", "user_info")

    def __init__(self, texts: list[str]) -> None:
        kinds: dict[str, list[str]] = {kind: [] for kind in "OSUIAE"}
        for text in texts:
            if text[:1] not in kinds:
                raise ProtocolError("an unknown kind of text")
            kinds[text[:1]].append(text[1:])
        self.options = tuple(kinds["O"])
        self.settings = frozenset(kinds["S"])
        self.user_info, self.command_info = _facts(kinds["U"]), _facts(kinds["I"])
        self.argv, self.env = tuple(kinds["A"]), tuple(kinds["E"])
        if not self.argv or not self.command_info.get("command") or not self.user_info.get("user"):
            raise ProtocolError("no command, or no user")


def decode_start(frame: bytes) -> Start:
    """Read the first frame.

    Raises:
        ProtocolError: it is not a first frame.
    """
    if not 2 < len(frame) <= MAX_START_BYTES or frame[:2] != bytes((wire.VERSION,)) + wire.START or frame[-1] != 0:
        raise ProtocolError("not the frame that was due")
    return Start([text.decode("utf-8", "surrogateescape") for text in frame[2:-1].split(b"\0")])


def encode_wait(seconds: int) -> bytes:
    """Return a frame that says that the next frame may come that much later."""
    return bytes((wire.VERSION,)) + _WAIT + bytes((min(seconds, _MAX_WAIT_S),))


def _facts(entries: list[str]) -> dict[str, str]:
    facts: dict[str, str] = {}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if not separator or name in facts:
            raise ProtocolError("a fact without a value, or one that stands twice")
        facts[name] = value
    return facts
