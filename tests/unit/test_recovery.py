"""Recovery codes: random enough, easy to type, recognised in any spelling."""

from __future__ import annotations

import math
import os

import pytest

from pam_softtoken.errors import OTPMismatch
from pam_softtoken.otp import recovery_code
from pam_softtoken.otp.recovery_code import RecoverySet


def test_codes__hold_at_least_fifty_random_bits() -> None:
    assert math.log2(len(set(recovery_code.ALPHABET))) * recovery_code.LENGTH >= 50


def test_codes__have_no_look_alikes() -> None:
    for look_alikes in ("0ODQ", "1IL", "2Z", "5S", "8B", "UV"):
        assert sum(letter in recovery_code.ALPHABET for letter in look_alikes.replace("D", "").replace("Q", "")) <= 1
    assert not set("01IOL") & set(recovery_code.ALPHABET)


def test_codes__are_all_different_and_well_formed() -> None:
    codes = recovery_code.generate(24)
    assert len(set(codes)) == 24
    assert all(recovery_code.normalise(code) == code.replace("-", "") for code in codes)
    assert recovery_code.generate(0) == []


def test_codes__use_the_whole_alphabet_evenly() -> None:
    letters = "".join("".join(recovery_code.generate(24)) for _ in range(40)).replace("-", "")
    expected = len(letters) / len(recovery_code.ALPHABET)
    chi_squared = sum((letters.count(letter) - expected) ** 2 / expected for letter in recovery_code.ALPHABET)
    # 22 degrees of freedom: above 60 by chance once in some 50 000 runs (Pearson's test).
    assert chi_squared < 60


@pytest.mark.parametrize(
    "typed", ["9KQT-4HAW-7XEC", "9kqt4haw7xec", " 9KQT 4HAW 7XEC ", "9-k-q-t-4-h-a-w-7-x-e-c", "9kqt-4HAW 7xec"]
)
def test_normalise__case_spaces_and_hyphens_do_not_matter(typed: str) -> None:
    assert recovery_code.normalise(typed) == "9KQT4HAW7XEC"


@pytest.mark.parametrize(
    "typed", ["", "9KQT", "9KQT4HAW7XE", "9KQT4HAW7XECC", "9KQT4HAW7XE0", "346796347963", "9kqt4haw7xeß"]
)
def test_normalise__anything_else_is_no_recovery_code(typed: str) -> None:
    assert recovery_code.normalise(typed) is None


def test_set__identifies_each_code_and_no_other() -> None:
    codes = recovery_code.generate(3)
    kept = RecoverySet.of(codes)
    names = [kept.identify(kept.digest(code.replace("-", ""))) for code in codes]
    assert sorted(names) == sorted(kept.names())
    with pytest.raises(OTPMismatch):
        kept.identify(kept.digest("AAAAAAAAAAAA"))


def test_set__the_same_codes_get_another_salt() -> None:
    codes = recovery_code.generate(1)
    assert RecoverySet.of(codes).hashes != RecoverySet.of(codes).hashes


@pytest.mark.parametrize("count", [-1, recovery_code.MAX_CODES + 1])
def test_codes__number_that_a_token_file_cannot_hold_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="0 to 24"):
        recovery_code.generate(count)


def test_codes__duplicates_and_codes_like_an_otp_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["A" * 12, "3" * 12, "A" * 12, "C" * 12]
    drawn = iter([255, *(recovery_code.ALPHABET.index(character) for character in "".join(wanted))])
    monkeypatch.setattr(os, "urandom", lambda size: bytes([next(drawn)]))
    assert recovery_code.generate(2) == ["AAAA-AAAA-AAAA", "CCCC-CCCC-CCCC"]
