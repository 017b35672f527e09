"""How a typed answer is split into its parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import MalformedAnswer
from pam_softtoken.login import answer
from pam_softtoken.otp.pin import MIN_CHARACTERS, PIN
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import Secret, TOTPToken

PASTED = [
    " ", "\t", "\r", "\u00a0", "\u2009", "\u200b", "\u200c", "\u200d", "\u202f", "\u2060", "\u3000", "\ufeff",
    "-", "\u00ad", "\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212", "\uff0d",
]  # fmt: skip
"""What comes with a code that was copied from a page, a message or a sheet."""


@pytest.mark.parametrize("typed", ["123456", "1234567", "12345678"])
def test_answer__digits_are_an_otp(typed: str) -> None:
    assert answer.read_code(typed).otp == typed


@pytest.mark.parametrize("mark", PASTED)
def test_answer__characters_pasted_around_a_code_do_not_count(mark: str) -> None:
    assert answer.read_code(f"{mark}123{mark}4 56{mark}").otp == "123456"
    assert answer.read_code(f"{mark}9kqt{mark}4HAW{mark}-7xec{mark}").recovery_code == "9KQT4HAW7XEC"


def test_answer__full_width_digits_are_digits_of_a_code() -> None:
    assert answer.read_code("\uff11\uff12\uff13\u3000\uff14\uff15\uff16").otp == "123456"
    assert answer.read_code("\uff19KQT-\uff14HAW-\uff17XEC").recovery_code == "9KQT4HAW7XEC"


@pytest.mark.parametrize(
    "typed", ["47 11\u00a0123456", "\u200b4711\t123456", "4711\u2013123-456", "\uff14711\uff11\uff123456"]
)
def test_answer__pin_is_read_like_the_code_behind_it(typed: str) -> None:
    phone = TOTPToken("phone", Secret.random("SHA1"), algorithm="SHA1", digits=6, created=0)
    content = TokenFile((phone,), RecoverySet.of([]), PIN.of("4711"))
    assert answer.claim(content, typed, combined=False).otps == {6: "123456"}
    assert answer.claim(content, typed.replace("7", "8"), combined=False).otps == {}


@pytest.mark.parametrize("mark", [*PASTED, "\uff11"])
def test_answer__nothing_in_a_password_is_changed(mark: str) -> None:
    password = f"{mark}se{mark}cret{mark}"
    assert (password, "123456") in [(each.front, each.otp) for each in answer.read(f"{password}12{PASTED[3]}3456")]
    codes = [(each.front, each.recovery_code) for each in answer.read(f"{password}9KQT-4HAW-7XEC")]
    assert codes == [(password, "9KQT4HAW7XEC")]


@given(st.text(alphabet=[*PASTED, *"0123456789\uff10\uff19ABCDx"], max_size=40))
def test_answer__has_at_most_four_readings(typed: str) -> None:
    try:
        readings = answer.read(typed)
    except MalformedAnswer:
        return
    assert len({len(reading.otp) for reading in readings}) == len(readings) <= 4


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "1",
        "12345",
        "123456789",
        "12345a",
        "+123456",
        "1_2_3_4",
        "0x1234",
        "12.3456",
        "\u0661\u0662\u0663\u0664\u0665\u0666",
        "\uff11\uff12\uff13\uff14\uff15",
        "123\n456",
        "123\u2028456",
        "\u00b9\u00b2\u00b3456",
        "123456\n",
        "123456\x00",
        "123456\udcff",
        "1" * 512,
        " " * 60 + "123456",
    ],
)
def test_answer__anything_else_is_malformed(typed: str) -> None:
    with pytest.raises(MalformedAnswer):
        answer.read_code(typed)


def test_answer__a_recovery_code_is_one_in_any_spelling() -> None:
    assert answer.read_code("9kqt 4haw-7xec").recovery_code == "9KQT4HAW7XEC"


@pytest.mark.parametrize(
    ("typed", "front", "otp"),
    [
        ("123456", "", "123456"),
        ("secret123456", "secret", "123456"),
        ("secret 123 456", "secret ", "123456"),
        ("secret 123456 ", "secret ", "123456"),
        ("geheim\u00e9\udcff123456", "geheim\u00e9\udcff", "123456"),
        ("4711287082", "4711", "287082"),
        ("4711287082", "471", "1287082"),
        ("4711287082", "47", "11287082"),
    ],
)
def test_answer__text_before_an_otp_is_kept_as_typed(typed: str, front: str, otp: str) -> None:
    assert (front, otp) in [(reading.front, reading.otp) for reading in answer.read(typed)]


@pytest.mark.parametrize(
    ("typed", "front"),
    [
        ("9KQT-4HAW-7XEC", ""),
        ("pass-9kqt 4haw-7xec", "pass-"),
        ("pass9KQT4HAW7XEC ", "pass"),
        ("4711 9KQT4HAW7XEC", "4711 "),
    ],
)
def test_answer__text_before_a_recovery_code_is_kept_as_typed(typed: str, front: str) -> None:
    assert [(reading.front, reading.recovery_code) for reading in answer.read(typed)] == [(front, "9KQT4HAW7XEC")]


@pytest.mark.parametrize("typed", ["", "password", "12345", "secret-12345", "secret123456x", "123456\n", "b" * 512])
def test_answer__without_a_code_at_its_end_is_malformed(typed: str) -> None:
    with pytest.raises(MalformedAnswer):
        answer.read(typed)


@given(st.text(max_size=30), st.text(alphabet="0123456789", min_size=6, max_size=8))
def test_answer__any_password_is_given_back_whole(password: str, otp: str) -> None:
    assert (password, otp) in [(reading.front, reading.otp) for reading in answer.read(password + otp)]


@pytest.mark.parametrize(
    ("typed", "hashes"),
    [
        ("x" * MIN_CHARACTERS + "1 23456", 1),
        ("x" * (MIN_CHARACTERS - 1) + "1 23456", 0),
        ("x" * MIN_CHARACTERS + "9KQT4HAW7XEC", 2),
        ("9KQT4HAW7XEC", 1),
        ("12345678", 1),
        ("password", 0),
    ],
)
def test_most_hashes__counts_the_possible_pins_and_the_codes_that_are_hashed(typed: str, hashes: int) -> None:
    assert answer.most_hashes(typed, combined=False) == hashes
