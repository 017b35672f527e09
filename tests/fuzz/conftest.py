"""Share the fixtures of `tests/pam` whose scenes are run again here."""

from __future__ import annotations

import pytest

from tests.pam.conftest import backends, clock, phone
from tests.support import sampling

__all__ = ["backends", "clock", "phone"]


@pytest.fixture
def starved_step() -> int:
    """The step between failing allocations of the backend. A full run fails each of them, which takes minutes."""
    return sampling.amount(sampling.source("starved").randint(14, 22), full=1)
