"""Fixtures that the tests of the soft token share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.device import Device


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device without a vault."""
    return Device(tmp_path / "data")
