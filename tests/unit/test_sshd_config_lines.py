"""Lines of sshd's configuration."""

from __future__ import annotations

import pytest

from pam_softtoken.admin.sshd import config_lines


@pytest.mark.parametrize(("long", "value"), [(False, "a b x"), (True, '"a b" x')])
def test_line__that_is_too_long_for_any_setting_is_split_without_its_quotes(long: bool, value: str) -> None:
    """To read quotes in a word takes a time that grows with the square of its length: minutes for a megabyte."""
    padding = " x" * 9000 if long else " x"
    (found,) = config_lines.read(lambda path: f'AllowUsers "a b"{padding}', lambda pattern: [])
    assert found.value.startswith(value)
