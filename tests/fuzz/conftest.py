"""Import the fixtures of `tests/pam` for its scenes that run again here."""

from __future__ import annotations

import os

import pytest

from tests.pam.conftest import backends, clock, phone

__all__ = ["backends", "clock", "phone"]


@pytest.fixture
def starved_step() -> int:
    """The step between failing allocations of the backend. STARVED_STEP=1 takes them all, and some minutes."""
    return int(os.environ.get("STARVED_STEP", "16"))
