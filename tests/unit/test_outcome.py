"""What the log says of a refusal: a command in it is whole, or is not there."""

from __future__ import annotations

import pytest

from pam_softtoken import errors, log
from pam_softtoken.login import outcome


@pytest.mark.parametrize(
    ("home", "is_named"),
    [("/home/alice", True), ("/srv/" + "h" * 250 + "/a", False), ("/home/J\u00fcrg", False), ("/home/a  b", False)],
)
def test_outcome__names_no_command_that_the_line_cuts_or_changes(home: str, is_named: bool) -> None:
    lines: list[str] = []
    error = errors.InsecureFile(home, "others can write it")
    error.cure = f"as root: chmod go-w {home}"
    outcome.write(log.Log(lambda _, line: lines.append(line)), error)
    assert lines[0].endswith(f'; {error.cure}"') is is_named
    assert ("chmod" in lines[0]) is is_named
    assert ("softtoken-admin doctor" in lines[0]) is not is_named
