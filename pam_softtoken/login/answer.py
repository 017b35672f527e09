"""Split a typed answer into an OTP or a recovery code at the end, and what stands in front of it. Does no I/O. A PIN
can stand in front of the code, and the password for the next module in front of the PIN. Only the tokens show where the
code begins, so an answer can have several readings. PIN and recovery code are hashed here, before `verifier` takes the
lock; each hash takes 40 ms. `verifier` then decides which reading is right.
"""

from __future__ import annotations

from pam_softtoken.errors import MalformedAnswer, OTPMismatch
from pam_softtoken.otp import hotp
from pam_softtoken.otp import recovery_code as recovery
from pam_softtoken.otp.pin import MIN_CHARACTERS
from pam_softtoken.otp.recovery_code import SCRATCH_LENGTH, RecoverySet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.token_file import TokenFile
    from pam_softtoken.login.throttle import Source
    from pam_softtoken.otp.pin import PIN

MAX_ANSWER_CHARACTERS = 64
"""The limit for an answer that is a code, with or without a PIN. With a password it may be longer."""
_NO_CODES = RecoverySet(bytes(16), ())
_RECOVERY_CHARACTERS = recovery.ALPHABET + recovery.ALPHABET.lower()
_SEPARATORS = " -"
_AS_TYPED = {
    **dict.fromkeys((0x09, 0x0D, 0xA0, *range(0x2000, 0x2010), 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF), " "),
    **dict.fromkeys((0xAD, *range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63, 0xFF0D), "-"),
    **{0xFF10 + digit: str(digit) for digit in range(10)},
}
"""What comes with a code that was pasted, or typed with an input method for East Asian scripts: tab, carriage return,
no-break, narrow and zero-width spaces; hyphens and dashes; full-width digits. Each stands for one plain character, so
that places in the text stay the same.
"""


class Question:
    """One answer to judge, and its circumstances.

    Args:
        typed: what the person typed.
        source: where the answer comes from, as `throttle.source_of` returns it.
        combined: a password can stand in front of it.
        tentative: the answer may be a password without a code, and the person can still answer. It must not make them
            wait, nor come between two consecutive OTPs.
        grace: the source's name from `grace`, to be recorded; empty for none.
        only_otps: do not compare with recovery codes and issued codes, so that none is used up.
        silent: the owner will not be told how many wrong answers came from elsewhere.
    """

    __slots__ = ("combined", "grace", "only_otps", "silent", "source", "tentative", "typed")

    def __init__(
        self,
        typed: str,
        *,
        source: Source,
        combined: bool = False,
        tentative: bool = False,
        grace: str = "",
        only_otps: bool = False,
        silent: bool = False,
    ) -> None:
        self.typed = typed
        self.source = source
        self.combined = combined
        self.tentative = tentative
        self.grace = grace
        self.only_otps = only_otps
        self.silent = silent

    def __repr__(self) -> str:
        return "Question(...)"


class Reading:
    """One way to read an answer. Exactly one of the two codes is set.

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
    """Read an answer in every possible way.

    Args:
        text: as typed. Spaces and hyphens inside a code, and the case of a recovery code, do not matter.

    Returns:
        At least one reading, at most one for each length of an OTP and one for a recovery code. A digit in front of an
        OTP may be the end of a PIN or password, or part of a longer OTP.

    Raises:
        MalformedAnswer: the answer does not end with a code.
    """
    readings = []
    plain = text.translate(_AS_TYPED)
    for length in range(hotp.MIN_DIGITS, hotp.MAX_DIGITS + 1):
        place = _begin_of(plain, length, "0123456789")
        if place is not None:
            readings.append(Reading(text[:place], otp=_compact(plain[place:])))
    place = _begin_of(plain, recovery.LENGTH, _RECOVERY_CHARACTERS)
    code = recovery.normalise(plain[place:]) if place is not None else None
    if code is not None:
        readings.append(Reading(text[:place], recovery_code=code))
    if not readings:
        raise MalformedAnswer
    return tuple(readings)


def read_code(text: str) -> Reading:
    """Read an answer that must be a code alone.

    Raises:
        MalformedAnswer: it is anything else.
    """
    if len(text) <= MAX_ANSWER_CHARACTERS:
        digits = _compact(text.translate(_AS_TYPED))
        if digits.isascii() and digits.isdecimal() and hotp.MIN_DIGITS <= len(digits) <= hotp.MAX_DIGITS:
            return Reading("", otp=digits)  # a quick way for the usual answer
        for reading in read(text):
            if not _front_of(reading, combined=False):
                return reading
    raise MalformedAnswer


def otp_in(text: str) -> str:
    """Return the OTP of an answer that must be an OTP alone; "" if it is anything else."""
    try:
        return read_code(text).otp
    except MalformedAnswer:
        return ""


def _compact(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


def _begin_of(text: str, length: int, characters: str) -> int | None:
    """Return where the last `length` characters of a text begin. Separators between and after them do not count."""
    place = len(text)
    while length > 0:
        place -= 1
        if place < 0 or text[place] not in characters + _SEPARATORS:
            return None
        if text[place] in characters:
            length -= 1
    return place


class Claim:
    """An answer whose PIN is right, or which needs no PIN.

    Attributes:
        otps: for each possible number of digits, the OTP that was typed.
        codes: the hash of each possible recovery code, with the text in front of PIN and code.
        scratch: the same for 8 digits that can be a scratch code. A scratch code is short enough to be guessed.
        passwords: for each number of digits, the text in front of PIN and OTP.
    """

    __slots__ = ("codes", "otps", "passwords", "scratch")

    def __init__(self) -> None:
        self.otps: dict[int, str] = {}
        self.passwords: dict[int, str] = {}
        self.codes: dict[bytes, str] = {}
        self.scratch: dict[bytes, str] = {}


def claim(content: TokenFile, typed: str, *, combined: bool) -> Claim:
    """Read an answer, and do the slow comparisons.

    Args:
        content: PIN and recovery codes of this user.
        typed: the answer.
        combined: a password can stand in front.

    Returns:
        The claim. It is empty when the PIN is wrong, because that must look like a wrong code.

    Raises:
        MalformedAnswer: the answer has no code.
    """
    made = Claim()
    seen: dict[str, bool] = {}
    for reading in _readings(content, typed, combined=combined):
        front, is_right = _front_of(reading, combined=combined), True
        if content.pin is not None:
            front, is_right = _without_pin(content.pin, front, seen, combined=combined)
        if reading.recovery_code:
            # The code is hashed even after a wrong PIN. Otherwise the time would reveal that the PIN was wrong.
            digest = content.recovery.digest(reading.recovery_code)
            if is_right:
                (made.scratch if reading.recovery_code.isdecimal() else made.codes)[digest] = front
        elif is_right:
            made.otps[len(reading.otp)], made.passwords[len(reading.otp)] = reading.otp, front
    return made


def most_hashes(typed: str, *, combined: bool) -> int:
    """Return the most hashes that an answer of this form can take, for any user: 6 at most."""
    try:
        readings = read(typed)
    except MalformedAnswer:
        return 0
    pins = sum(len(_front_of(reading, combined=combined)) >= MIN_CHARACTERS for reading in readings)
    return pins + sum(not reading.otp or len(reading.otp) == SCRATCH_LENGTH for reading in readings)


def pretend(typed: str, *, combined: bool) -> None:
    """Hash a dummy, so that users without tokens are refused no faster."""
    try:
        for reading in read(typed) if combined else (read_code(typed),):
            if reading.recovery_code:
                _NO_CODES.digest(reading.recovery_code)
    except MalformedAnswer:
        pass


def _readings(content: TokenFile, typed: str, *, combined: bool) -> tuple[Reading, ...]:
    if combined:
        readings = read(typed)
    elif content.pin is None:
        readings = (read_code(typed),)
    elif len(typed) <= MAX_ANSWER_CHARACTERS:
        readings = read(typed)
    else:
        raise MalformedAnswer
    digits = {token.digits for token in content.tokens}
    usable = [each for each in readings if each.recovery_code or len(each.otp) in digits]
    if content.recovery.scratch:
        scratch = [each for each in readings if len(each.otp) == SCRATCH_LENGTH]
        usable += [Reading(each.front, recovery_code=each.otp) for each in scratch]
    return tuple(usable)


def _front_of(reading: Reading, *, combined: bool) -> str:
    # In a password, spaces and hyphens are ordinary characters.
    return reading.front if combined else _compact(reading.front.translate(_AS_TYPED))


def _without_pin(pin: PIN, front: str, seen: dict[str, bool], *, combined: bool) -> tuple[str, bool]:
    """Return the text in front of the PIN, and whether the PIN is right.

    Any text that is long enough for some PIN is hashed exactly once. The number of hashes must not reveal the length of
    the right PIN.

    Args:
        pin: the user's PIN.
        front: the text in front of the code.
        seen: texts that were hashed before, and whether each was right.
        combined: a password can stand in front of the PIN.

    Returns:
        The text in front of the PIN, and whether the PIN is right.
    """
    if len(front) < MIN_CHARACTERS:
        return "", False
    place = max(0, len(front) - pin.length) if combined else 0
    typed = front[place:]
    if typed not in seen:
        try:
            pin.verify(typed)
            seen[typed] = True
        except OTPMismatch:
            seen[typed] = False
    return front[:place], seen[typed]
