"""What the tests of `tests/pam` have, for those of its scenes that are played again here."""

from tests.pam.conftest import backends, clock, phone

__all__ = ["backends", "clock", "phone"]
