"""What an answer claims: which OTP or which recovery code of this user's, after PIN and recovery code have been hashed.

No file, clock, socket or log. Hashing takes 40 ms, so it is done here, before `verifier` takes the lock.
"""

from __future__ import annotations

from pam_softtoken import answer
from pam_softtoken.answer import MAX_ANSWER_CHARACTERS, Reading
from pam_softtoken.errors import MalformedAnswer, OTPMismatch
from pam_softtoken.recovery import SCRATCH_LENGTH, RecoverySet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.tokenfile import TokenFile

_NO_CODES = RecoverySet(bytes(16), ())


class Claim:
    """An answer whose PIN is right, or that needs none.

    Attributes:
        otps: the OTP that was typed, for each number of digits that it can have.
        code: name of the recovery code that was typed; empty for none.
        passwords: what stood in front of PIN and code, for each number of digits, and for a recovery code under 0.
    """

    __slots__ = ("code", "otps", "passwords")

    def __init__(self) -> None:
        self.otps: dict[int, str] = {}
        self.passwords: dict[int, str] = {}
        self.code = ""


def claim(content: TokenFile, typed: str, *, combined: bool) -> Claim:
    """Take an answer apart, and compare what is slow to compare.

    Args:
        content: PIN and recovery codes of this user.
        typed: the answer.
        combined: a password can stand in front.

    Returns:
        The claim; an empty one when the PIN is wrong, which must look like a wrong code.

    Raises:
        MalformedAnswer: there is no code in it.
    """
    made = Claim()
    for reading in _readings(content, typed, combined=combined):
        front = reading.front
        if content.pin is not None:
            if not combined:
                front = front.replace(" ", "").replace("-", "")
            place = len(front) - content.pin.length
            if place < 0 or (place > 0 and not combined):
                continue
            try:
                content.pin.verify(front[place:])
                is_right = True
            except OTPMismatch:
                is_right = False
            front = front[:place]
        else:
            is_right = True
        if reading.recovery_code:
            # Hashed even behind a wrong PIN: its time must not tell that the PIN was wrong.
            name = _identify(content.recovery, reading.recovery_code)
            if name and is_right:
                made.code, made.passwords[0] = name, front
        elif is_right:
            made.otps[len(reading.otp)], made.passwords[len(reading.otp)] = reading.otp, front
    return made


def pretend(typed: str, *, combined: bool) -> None:
    """Spend the time on the answer of somebody who has no token that it would take if he had one."""
    try:
        for reading in answer.read(typed) if combined else (answer.read_code(typed),):
            if reading.recovery_code:
                _identify(_NO_CODES, reading.recovery_code)
    except MalformedAnswer:
        pass


def _readings(content: TokenFile, typed: str, *, combined: bool) -> tuple[Reading, ...]:
    if combined:
        readings = answer.read(typed)
    elif content.pin is None:
        readings = (answer.read_code(typed),)
    elif len(typed) <= MAX_ANSWER_CHARACTERS:
        readings = answer.read(typed)
    else:
        raise MalformedAnswer
    if not content.recovery.scratch:
        return readings
    return (
        *readings,
        *(Reading(each.front, recovery_code=each.otp) for each in readings if len(each.otp) == SCRATCH_LENGTH),
    )


def _identify(codes: RecoverySet, typed: str) -> str:
    try:
        return codes.identify(typed)
    except OTPMismatch:
        return ""
