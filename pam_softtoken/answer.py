"""What a person typed, taken apart: an OTP or a recovery code at the end, and what stands in front of it. No I/O.

In front of the code can stand a PIN, and in front of that the password for the next module. Where the code begins is
known only when the tokens are, so an answer has readings, and `verifier` finds out which of them is right.
"""

from __future__ import annotations

from pam_softtoken import otp, recovery
from pam_softtoken.errors import MalformedAnswer

MAX_ANSWER_CHARACTERS = 64
"""Of an answer that is a code, with or without a PIN; a password may make it longer."""
_RECOVERY_CHARACTERS = recovery.ALPHABET + recovery.ALPHABET.lower()


class Reading:
    """One way to read an answer; exactly one of the two codes is set.

    Args:
        front: what stands in front of the code, as typed.
        otp: 6 to 8 digits.
        recovery_code: 12 characters in their canonical form, or the 8 digits of a scratch code.
    """

    __slots__ = ("front", "otp", "recovery_code")

    def __init__(self, front: str, *, otp: str = "", recovery_code: str = "") -> None:
        self.front = front
        self.otp = otp
        self.recovery_code = recovery_code

    def __repr__(self) -> str:
        return "Reading(...)"


def read(text: str) -> tuple[Reading, ...]:
    """Take an answer apart in every way that there is.

    Args:
        text: as typed. Spaces inside an OTP, and case, spaces and hyphens of a recovery code, do not matter.

    Returns:
        The readings, at least one. A digit in front of an OTP may be the end of a PIN or password, or make it longer.

    Raises:
        MalformedAnswer: there is no code at its end.
    """
    readings = []
    for length in range(otp.MIN_DIGITS, otp.MAX_DIGITS + 1):
        place = _begin_of(text, length, "0123456789", " ")
        if place is not None:
            readings.append(Reading(text[:place], otp=text[place:].replace(" ", "")))
    place = _begin_of(text, recovery.LENGTH, _RECOVERY_CHARACTERS, " -")
    code = recovery.normalise(text[place:]) if place is not None else None
    if code is not None:
        readings.append(Reading(text[:place], recovery_code=code))
    if not readings:
        raise MalformedAnswer
    return tuple(readings)


def read_code(text: str) -> Reading:
    """Read an answer in front of whose code nothing may stand.

    Raises:
        MalformedAnswer: it is not a code and nothing else.
    """
    if len(text) <= MAX_ANSWER_CHARACTERS:
        for reading in read(text):
            if not reading.front.strip(" "):
                return reading
    raise MalformedAnswer


def _begin_of(text: str, length: int, characters: str, separators: str) -> int | None:
    """Find where a text's last so many characters begin, separators between and behind them not counted."""
    place = len(text)
    while length > 0:
        place -= 1
        if place < 0 or text[place] not in characters + separators:
            return None
        if text[place] in characters:
            length -= 1
    return place
