"""Every exception of the project. Each keeps its facts in fields, so that no caller has to parse a text. Imports
nothing. `ValueError` and `TypeError` are not here: they mean a bug in our own caller.
"""

from __future__ import annotations


class SoftTokenError(Exception):
    """Root of the tree.

    Attributes:
        cure: what helps, for the log of a login. `account.cure` fills it in.
    """

    cure = ""


class Refused(SoftTokenError):
    """The attempt was judged, and the answer is no."""


class ClockDoubt:
    """What a refused code shows about a clock that is or was wrong.

    Args:
        kind: one of the following.
            `APP`: the code is right for another time near by. The app's clock or this machine's clock is wrong now.
            `UNSET`: this machine's clock is before the day of this version, so it is wrong.
            `RECORD`: the code is right for this machine's time, but a later one was accepted. The clock was wrong then.
            `UNCLEAR`: a later code was accepted, or the token was enrolled later. The clock is wrong now, or was then.
        seconds: for `APP`, how far the app's clock is ahead; negative when it is behind. For `UNSET`, this machine's
            clock in Unix seconds. Otherwise, how far the record is ahead of this machine's clock.
    """

    APP, UNSET, RECORD, UNCLEAR = "app", "unset", "record", "unclear"
    __slots__ = ("kind", "seconds")

    def __init__(self, kind: str, seconds: int) -> None:
        self.kind = kind
        self.seconds = seconds


class NotRelayed(Refused):
    """A program without root asked root's service for something that it may not have.

    Args:
        why: for the log.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class OTPRefused(Refused):
    """The code was compared and must not be accepted.

    Attributes:
        clock: what the code shows about a clock; None when it shows nothing.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.clock: ClockDoubt | None = None


class OTPMismatch(OTPRefused):
    """The code is none of those that would have been accepted.

    Args:
        noted: the code is right for a counter out of reach. The code after it will be accepted next.
    """

    def __init__(self, *, noted: bool = False) -> None:
        super().__init__("mismatch")
        self.noted = noted


class OTPReplayed(OTPRefused):
    """The code was right, but it was used before, or a later code was.

    Args:
        token: name of the token that the code belongs to; empty for a recovery code.
    """

    def __init__(self, token: str) -> None:
        super().__init__(f"replayed: {token}")
        self.token = token


class CodeExpired(OTPRefused):
    """An administrator issued the code, and its time is over or has not begun.

    Args:
        begins_in_s: seconds until its time begins by this machine's clock; 0 when it is over.
    """

    def __init__(self, *, begins_in_s: int = 0) -> None:
        super().__init__("expired")
        self.begins_in_s = begins_in_s


class MalformedAnswer(Refused):
    """The answer has the form of neither an OTP nor a recovery code."""


class Throttled(Refused):
    """There were too many wrong answers. One code alone is not accepted now.

    Args:
        retry_after_s: seconds still to wait.
        pair_helps: two codes in a row are accepted all the same.

    Attributes:
        clock: as in `OTPRefused`, where it means that two codes in a row do not help either.
    """

    def __init__(self, retry_after_s: int, *, pair_helps: bool = False) -> None:
        super().__init__(f"throttled for {retry_after_s} s")
        self.clock: ClockDoubt | None = None
        self.retry_after_s = retry_after_s
        self.pair_helps = pair_helps

    def advice(self) -> str:
        """Return what to do, for a person who already is the user."""
        what = "Type two codes in a row, or wait" if self.pair_helps else "Wait"
        return f"Too many wrong codes. {what} {in_words(self.retry_after_s)}."


def in_words(seconds: int) -> str:
    """Return a duration in its largest unit, rounded up: `34 s`, `15 min`, `24 h`, `365 d`.

    >>> [in_words(seconds) for seconds in (34, 119, 120, 900, 7201, 172_801)]
    ['34 s', '119 s', '2 min', '15 min', '3 h', '3 d']
    """
    if seconds < 2 * 60:
        return f"{seconds} s"
    if seconds < 2 * 60 * 60:
        return f"{-(-seconds // 60)} min"
    if seconds <= 48 * 60 * 60:
        return f"{-(-seconds // 3600)} h"
    return f"{-(-seconds // 86400)} d"


def day_of(seconds: int) -> str:
    """Return the day of a time in Unix seconds, in UTC. Does not use `time`: modules that only decide do not import it.

    >>> [day_of(0), day_of(951_825_600)]
    ['1970-01-01', '2000-02-29']
    """
    # Years begin in March here, so that a leap day is the last day.
    era, day = divmod(max(0, seconds) // 86_400 + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    return f"{400 * era + year + (month > 9):04}-{(month + 2) % 12 + 1:02}-{day + 1:02}"


class NotEnrolled(Refused):
    """The user has no token file.

    Args:
        proven: the user never enrolled. The directory that would hold the file was opened, and the file is not there.
            The mark that the first accepted code leaves is not there either.
        why: for the log, what happened to the account since it was enrolled, and what helps. Empty when nothing
            happened.
        path: of the missing token file, where it is known.
    """

    def __init__(self, *, proven: bool, why: str = "", path: str = "") -> None:
        super().__init__("not enrolled")
        self.path = path
        self.proven = proven
        self.why = why


class Revoked(NotEnrolled):
    """Root revoked all tokens of the user, or revoked something of theirs during the attempt."""

    def __init__(self) -> None:
        super().__init__(proven=False)


class EnrolmentRefused(Refused):
    """The user was to enrol in the login itself, and could not.

    Args:
        why: the cause, for the log.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"not enrolled in the login: {why}")
        self.why = why


class PINMissing(Refused):
    """The user has not set a PIN, and this host requires one."""


class UnknownUser(Refused):
    """This host knows no user of that name."""


class Unusable(SoftTokenError):
    """Something that the verdict needs is not in order."""


class LookUpFailed(Unusable):
    """The host could not tell whether it knows a user of that name.

    Args:
        why: the cause, for the log.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"the host cannot look the user up: {why}")
        self.why = why


DENIED, FULL, IMMUTABLE, MISSING, READ_ONLY = "denied", "full", "immutable", "missing", "read-only"
EXPLAINED = "explained"
"""The kind of an error whose text says what helps."""
FOREIGN, HARD_LINKED, LINK, NO_DIRECTORY, NO_FILE = "foreign", "hard-linked", "link", "no-directory", "no-file"
READABLE, WRITABLE = "readable", "writable"
NO_KEY, NOT_LOADED, WRONG_KEY = "no-key", "not-loaded", "wrong-key"
"""What is wrong with a file or directory, as far as `account.cure` can help. The system's reasons come first, then our
own.
"""


class PathError(Unusable):
    """Root of everything that can be wrong with a file.

    Args:
        path: the file.
        why: the cause, for the log.
        kind: one of the words above; empty for anything else.
        culprit: what has to be changed, if that is not the file but a directory above it.
        owner: uid of the culprit's owner; -1 when it is not known.

    Attributes:
        aftermath: what became of the change that was under way, for the end of a message.
    """

    aftermath = "nothing was changed"

    def __init__(self, path: str, why: str, *, kind: str = "", culprit: str = "", owner: int = -1) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why
        self.kind = kind
        self.culprit = culprit or path
        self.owner = owner


class InsecureFile(PathError):
    """Others could have written, linked or replaced the file."""


class UnusableFile(PathError):
    """The system would not open, read or lock the file."""

    @property
    def denied(self) -> bool:
        """Whether the cause is missing permission."""
        return self.kind == DENIED

    @property
    def read_only(self) -> bool:
        """Whether the cause is a file system that cannot be written."""
        return self.kind == READ_ONLY


class NoHome(UnusableFile):
    """The user's home directory is missing. An unmounted one looks the same, so its absence alone proves nothing.

    Args:
        path: of the home directory.

    Attributes:
        was_enrolled: a code of the user was accepted, or tokens were revoked, as far as root's records tell.
        doubt: for the log, why the user does not count as one who never enrolled. Empty until that was asked.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, "there is no home directory yet, or it is not mounted", kind=MISSING)
        self.was_enrolled = True
        self.doubt = ""

    def __str__(self) -> str:
        return f"{super().__str__()}; {self.doubt}" if self.doubt else super().__str__()


class LockTimeout(PathError):
    """Another process held the lock for too long.

    Args:
        lock: the name of the file in the kernel's list of locks; empty when it is not known.

    Attributes:
        holder: the process that holds the lock, in words for root. Empty until it has been looked up.
    """

    def __init__(self, path: str, why: str, *, lock: str = "") -> None:
        super().__init__(path, why)
        self.lock = lock
        self.holder = ""

    def __str__(self) -> str:
        return f"{super().__str__()}; {self.holder}" if self.holder else super().__str__()


class BadTokenFile(PathError):
    """The token file is not what enrolment wrote. `why` names the place."""


class OtherAccount(BadTokenFile):
    """The token file in root's store belongs to another account, or does not name its account.

    A new user with a former user's uid or name gets nothing of the former user. This error is no proof of absence
    either.
    """


class Sealed(BadTokenFile):
    """The token file is sealed, and this host cannot open it, or cannot seal what it has to write.

    The kind is `NO_KEY`, `NOT_LOADED` or `WRONG_KEY`; empty if the file was changed.
    """


class DamagedState(PathError):
    """Neither slot of the state file can be trusted, so replay protection cannot be decided."""


class NotStored(PathError):
    """The right code could not be recorded as used, so it was not accepted."""


class NotSynced(NotStored):
    """The change is in place, but the disk has not confirmed it. So a power failure may undo it."""

    aftermath = "the change is in place, but a power failure may undo it"


class ConfigError(SoftTokenError):
    """Module arguments or the configuration file are wrong.

    Args:
        problems: one text for each mistake. It has all mistakes, not only the first.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ConversationFailed(SoftTokenError):
    """The application could not ask the person, or the person cancelled."""


class ProtocolError(SoftTokenError):
    """The bridge and the backend do not speak the same protocol."""
