"""The controls of PAM lines, as libpam reads them. The fuzzer compares them with libpam itself."""

from __future__ import annotations

import pytest

from pam_softtoken.pam.control import WORDS, BadControl, actions_of, jump_of


@pytest.mark.parametrize("word", WORDS)
def test_control__word_stands_for_its_actions(word: str) -> None:
    assert actions_of(word) is WORDS[word]


@pytest.mark.parametrize(
    ("control", "actions"),
    [
        ("success=ok default=die", {"success": "ok", "default": "die"}),
        (" success = ok\tdefault\v=\fdie ", {"success": "ok", "default": "die"}),
        ("success=okdefault=die", {"success": "ok", "default": "die"}),
        ("success=ok", {"success": "ok", "default": "bad"}),
        ("default=1 default=2 success=03", {"success": "3", "default": "1"}),
        ("success=ok success=ignore", {"success": "ignore", "default": "bad"}),
        ("", {"default": "bad"}),
    ],
)
def test_control__in_brackets_is_read_as_libpam_reads_it(control: str, actions: dict[str, str]) -> None:
    assert actions_of(control) == actions


@pytest.mark.parametrize(
    "control", ["success", "success=", "success=okay", "SUCCESS=ok", "success=OK", "success=0", "success=-1", "yes=ok",
                "success=2147483648", "success=" + "9" * 5000, "success=\u0661"],
)  # fmt: skip
def test_control__that_libpam_cannot_read_is_bad(control: str) -> None:
    with pytest.raises(BadControl):
        actions_of(control)


def test_jump__is_the_longest_one() -> None:
    assert jump_of(actions_of("success=2 default=1")) == 2
    assert jump_of(actions_of("required")) == 0
