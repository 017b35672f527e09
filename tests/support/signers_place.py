"""The directory of all users' tokens that sign, which the tests of several processes share."""

from __future__ import annotations

from pathlib import Path

from pam_softtoken.account import places
from tests.support.process import wait_until

PLACE = Path(places.SIGNERS)


def require_no_leftovers() -> None:
    """Check that no change has left anything under a temporary name. Changes of other tests go on meanwhile."""
    wait_until(
        lambda: not PLACE.exists() or not any(path.name.startswith(".") for path in PLACE.iterdir()),
        f"temporary files in {PLACE} to go",
    )
