"""Log lines: field order, escaping and levels. Whoever owns a way to the system log passes it in as `send`.

Every line is for an administrator with a question, so it is `key=value` throughout, and nothing that a person typed
at a prompt is ever in it. Imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# syslog(3) severities, by the Linux-PAM Module Writers' Guide: a broken set-up ALERT, an unusable part ERR, a refused
# person NOTICE.
ALERT, ERR, WARNING, NOTICE, INFO, DEBUG = 1, 3, 4, 5, 6, 7

REASONS = frozenset(
    {
        "accepted",
        "recovery",
        "issued",
        "grace",
        "enrolled",
        "enrolment",
        "mismatch",
        "replayed",
        "expired",
        "throttled",
        "malformed",
        "not_enrolled",
        "pin_missing",
        "unknown_user",
        "insecure_file",
        "unusable_file",
        "bad_token_file",
        "other_account",
        "damaged_state",
        "lock_timeout",
        "not_stored",
        "bad_option",
        "conversation",
        "internal",
        "backend",
    }
)
"""What `reason=` can say. `backend` is mostly said by the bridge, when there is no backend left to say it."""

MAX_VALUE_CHARACTERS = 256
MAX_DETAIL_CHARACTERS = 512
_PLAIN = "".join(chr(code) for code in range(ord("!"), ord("~") + 1) if chr(code) not in '"\\=')


def escape(value: str) -> str:
    r"""Make a value from outside safe to stand in one field of one line.

    Args:
        value: any text, of any length.

    Returns:
        At most 256 visible ASCII characters; anything else as `\xNN` for each of its UTF-8 bytes.
    """
    if len(value) <= MAX_VALUE_CHARACTERS and not value.strip(_PLAIN):
        return value
    return "".join(
        character if character in _PLAIN else "".join(f"\\x{byte:02x}" for byte in _bytes_of(character))
        for character in value[:MAX_VALUE_CHARACTERS]
    )[:MAX_VALUE_CHARACTERS]


def _bytes_of(character: str) -> bytes:
    # Half of a surrogate pair stands for a byte that was not UTF-8, or it was written so in a token file's JSON.
    return character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")


class Log:
    """The log of one attempt.

    Args:
        send: takes a severity and one line of text.
    """

    def __init__(self, send: Callable[[int, str], None]) -> None:
        self._send = send
        self.user = ""
        self.rhost = ""
        self.debugging = False

    def outcome(self, level: int, result: str, reason: str, *, token: str = "", detail: str = "") -> None:
        """Write the one line that says how the attempt ended.

        Args:
            level: syslog severity.
            result: `accepted`, `denied` or `ignored`.
            reason: one of `REASONS`.
            token: name of the token, where one matched.
            detail: more for the administrator; never what was typed.
        """
        if reason not in REASONS:
            raise ValueError(f"not a reason: {reason}")
        who = f"user={escape(self.user)} " if self.user else ""
        where = f"rhost={escape(self.rhost)} " if self.rhost else ""
        which = f"token={escape(token)} " if token else ""
        self._send(level, f"{who}{where}{which}result={result} reason={reason}{self._quoted(detail)}")

    def note(self, level: int, text: str) -> None:
        """Write a line beside the outcome: a warning, or, under `debug`, a step on the way."""
        if level < DEBUG or self.debugging:
            self._send(level, f"user={escape(self.user)}{self._quoted(text)}")

    @staticmethod
    def _quoted(detail: str) -> str:
        if not detail:
            return ""
        words = " ".join(escape(word).replace("\\x3d", "=") for word in detail.split())
        return f' detail="{words[:MAX_DETAIL_CHARACTERS]}"' if words else ""
