"""What the tests of `tests/pam` have, for those of its scenes that are played again here."""

from __future__ import annotations

import os

import pytest

from tests.pam.conftest import backends, clock, phone

__all__ = ["backends", "clock", "phone"]


@pytest.fixture
def starved_step() -> int:
    """Every which allocation of the backend fails; STARVED_STEP=1 takes them all, and some minutes."""
    return int(os.environ.get("STARVED_STEP", "16"))
