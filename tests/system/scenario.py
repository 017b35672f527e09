"""Share short helpers among the scenarios."""

from __future__ import annotations

from tests.support.account import Phone

# With steps of five minutes, the codes of this step and of the next are both good, and no test waits for one.
SLOW = "--period=300"


def wrong_code(phone: Phone) -> str:
    """Return a code that this token does not show at any time near now."""
    near = {phone.totp(steps) for steps in range(-2, 4)}
    return next(
        code for code in ("000000", "111111", "222222", "333333", "444444", "555555", "666666") if code not in near
    )
