"""Log lines: field order, escaping and levels. The owner of a way to the system log passes it in as `send`.

Every line is for an administrator with a question, so it is `key=value` throughout, and nothing that a person typed
at a prompt is ever in it. `admin/log_view/log_lines.py` reads the lines. Imports nothing.
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
        "revoked",
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

RESULTS = frozenset({"accepted", "denied", "ignored"})
FIELDS = ("user", "uid", "rhost", "token", "result", "reason", "trial", "detail")
"""The fields of an outcome, in this order. `uid` is the caller's, where that is not root: who typed at su or sudo."""
PHASES = ("auth", "account")

TRIAL_VARIABLE, TRIAL_SERVICES, TRIAL = "PAM_SOFTTOKEN_TRIAL", "softtoken-", "yes"
"""How our own programs mark an attempt that only tries whether the module works; see `pam_module`."""

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


def head(service: str, phase: str) -> str:
    """Return what stands in front of each line, as pam_syslog(3) writes it."""
    return f"pam_softtoken({escape(service)}:{phase}): "


def words(fields: dict[str, str]) -> str:
    """Return a line of `name=value` words, without those that have no value."""
    return " ".join(f"{name}={escape(value)}" for name, value in fields.items() if value)


def quoted(detail: str) -> str:
    """Return the last word of a line, a text that may have spaces, with a blank in front; empty where there is none."""
    words = " ".join(escape(word).replace("\\x3d", "=") for word in detail.split())
    return f' detail="{words[:MAX_DETAIL_CHARACTERS]}"' if words else ""


class Log:
    """The log of one attempt.

    Args:
        send: takes a severity and one line of text.
    """

    def __init__(self, send: Callable[[int, str], None]) -> None:
        self._send = send
        self.user = ""
        self.uid = ""
        self.rhost = ""
        self.trial = False
        self.debugging = False

    def outcome(self, level: int, result: str, reason: str, *, token: str = "", detail: str = "") -> None:
        """Write the one line that says how the attempt ended.

        Args:
            level: syslog severity.
            result: one of `RESULTS`.
            reason: one of `REASONS`.
            token: name of the token, where one matched.
            detail: more for the administrator; never what was typed.
        """
        if reason not in REASONS:
            raise ValueError(f"not a reason: {reason}")
        values = (self.user, self.uid, self.rhost, token, result, reason, TRIAL if self.trial else "")
        self._send(level, words(dict(zip(FIELDS[:-1], values))) + quoted(detail))  # noqa: B905 - quick

    def note(self, level: int, text: str) -> None:
        """Write a line beside the outcome: a warning, or, under `debug`, a step on the way."""
        if level < DEBUG or self.debugging:
            self._send(level, f"user={escape(self.user)}{quoted(text)}")
