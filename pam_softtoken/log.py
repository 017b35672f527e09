"""Log lines: field order, escaping and levels. The owner of a way to the system log passes it in as `send`. Every line
answers an administrator's question, so all of it is `key=value`. No line ever has what a person typed at a prompt.
`admin/log_view` reads the lines. Imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# syslog(3) severities, by the Linux-PAM Module Writers' Guide: ALERT for a broken set-up, ERR for an unusable part,
# NOTICE for a refused user.
ALERT, ERR, WARNING, NOTICE, INFO, DEBUG = 1, 3, 4, 5, 6, 7

REASONS = {
    "accepted": "A code was right.",
    "recovery": "A recovery code was right; `detail` says how many are left.",
    "issued": "A code that an administrator had issued was right.",
    "grace": "A code was accepted from there lately, see `grace`. None was asked for.",
    "signed": "A signature was right; `detail` has the command.",
    "enrolled": "At the `account` line: the user enrolled in the login itself, see `enrol`.",
    "enrolment": "At the `account` line: the user was to enrol in the login, and did not. `detail` says why.",
    "mismatch": "The code is not right now. Where it is the code of another time, a clock is wrong: "
    "`detail` says by how much, or that this machine's clock was never set.",
    "replayed": "The code was right, but it is used, or older than a used one. Where the used one is of a time "
    "that has not come, `detail` says so: `the record is from the future`.",
    "expired": "The code was issued by an administrator, and its time is over; or a signature came too late. Where the "
    "clock was set back and the machine restarted, `detail` says when its time begins.",
    "throttled": "There were too many wrong answers, so one code alone is not accepted now. `detail` says for how "
    "long.",
    "malformed": "The answer is neither 6 to 8 digits nor a recovery code.",
    "not_enrolled": "There is no token file.",
    "no_home": "There is no home directory, which would hold the token file, or it is not mounted. `detail` says "
    "what helps.",
    "revoked": "`softtoken-admin revoke` took all tokens of the user away, or one during this login.",
    "pin_missing": "`pin_required` is given, and the user has no PIN.",
    "unknown_user": "This host knows no such user. The name is not logged; it may be a password.",
    "insecure_file": "A file or directory is open to others. `detail` names it, and the command that helps.",
    "unusable_file": "A file or directory cannot be used. `detail` names it, and the command that helps.",
    "bad_token_file": "The token file is not what enrolment wrote. `detail` names it.",
    "other_account": "The token file in a store of root's is that of another account, or does not name its account. "
    "`detail` names both, and the command that helps.",
    "sealed": "The token file in root's store is sealed and cannot be opened: there is no key, it is another key, "
    "or the file was changed. `detail` says which, and what helps. See `softtoken-admin seal`.",
    "damaged_state": "It is not known any more which codes were used. `softtoken-admin reset-state` starts "
    "the state anew.",
    "lock_timeout": "The use of a code could not be recorded, because another process holds the lock, so the code was "
    "not accepted. `detail` names that process. `kill -KILL PID` ends it, also one that is stopped.",
    "not_stored": "The use of a code could not be recorded, so the code was not accepted.",
    "signature_required": "A signature is required, and nobody could be asked for one, or there is no signing token. "
    "`detail` says which.",
    "too_long": "The command line and its environment are too long to be shown and signed.",
    "bad_option": "An option is wrong. The lines above this one name it.",
    "conversation": "The application gave no answer, or the user cancelled.",
    "internal": "A mistake in the module.",
    "relay": "`softtoken-login.socket` refused a program that does not run as root. `detail` says why.",
    "backend": "The Python side is missing, hung or failed, or the host cannot look users up. `detail` says which.",
}
"""The values of `reason=`, each with its meaning. The bridge says `backend` when there is no backend left."""

RESULTS = frozenset({"accepted", "denied", "ignored"})
FIELDS = ("user", "uid", "rhost", "token", "result", "reason", "trial", "detail")
"""The fields of an outcome, in this order. `uid` is the caller's, if that is not root: it shows the person at su or
sudo.
"""
PHASES = ("auth", "account", "sign")

TRIAL_VARIABLE, TRIAL_SERVICES, TRIAL = "PAM_SOFTTOKEN_TRIAL", "softtoken-", "yes"
"""Our own programs use these to mark an attempt that only tests the module. See `pam_module`."""

MAX_VALUE_CHARACTERS = 256
MAX_DETAIL_CHARACTERS = 512
_PLAIN = "".join(chr(code) for code in range(ord("!"), ord("~") + 1) if chr(code) not in '"\\=')


def escape(value: str) -> str:
    r"""Return a value from outside in a form that is safe in one field of one line.

    Args:
        value: any text, of any length.

    Returns:
        At most 256 visible ASCII characters. Anything else becomes `\xNN` for each of its UTF-8 bytes.
    """
    if len(value) <= MAX_VALUE_CHARACTERS and not value.strip(_PLAIN):
        return value
    return "".join(
        character if character in _PLAIN else "".join(f"\\x{byte:02x}" for byte in _bytes_of(character))
        for character in value[:MAX_VALUE_CHARACTERS]
    )[:MAX_VALUE_CHARACTERS]


def _bytes_of(character: str) -> bytes:
    # Half of a surrogate pair stands for a byte that was not UTF-8, or a token file's JSON has it in that form.
    return character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")


def head(service: str, phase: str) -> str:
    """Return the start of each line, as pam_syslog(3) writes it."""
    return f"pam_softtoken({escape(service)}:{phase}): "


def words(fields: dict[str, str]) -> str:
    """Return a line of `name=value` words, without those that are empty."""
    return " ".join(f"{name}={escape(value)}" for name, value in fields.items() if value)


def quoted(detail: str) -> str:
    """Return the last word of a line, with a blank in front. It may have spaces. It is empty when `detail` is."""
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
            token: name of the token that matched, if any.
            detail: more for the administrator; never what was typed.

        Raises:
            ValueError: the reason is not in `REASONS`.
        """
        if reason not in REASONS:
            raise ValueError(f"not a reason: {reason}")
        values = (self.user, self.uid, self.rhost, token, result, reason, TRIAL if self.trial else "")
        self._send(level, words(dict(zip(FIELDS[:-1], values))) + quoted(detail))  # noqa: B905 - quick

    def note(self, level: int, text: str) -> None:
        """Write a line beside the outcome: a warning or, under `debug`, one step of the attempt."""
        if level < DEBUG or self.debugging:
            self._send(level, f"user={escape(self.user)}{quoted(text)}")
