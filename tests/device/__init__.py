"""Test `softtoken`, the soft token on the user's own device."""
