"""Compare files, options and long answers with Debian's pam_google_authenticator; see test_like_google.py."""

from __future__ import annotations

import pytest

from tests.support.client import FAIL, NO_ANSWER, PAM_AUTH_ERR, PAM_CONV_ERR, PAM_SUCCESS
from tests.support.oracle import (
    ALL_WAYS,
    IGNORE,
    NO,
    NOW,
    PASSWORD,
    SCRATCH_CODES,
    STEP,
    WAYS,
    YES,
    Enrolments,
    Pair,
    Way,
    agree,
)
from tests.support.pam_scene import Clock, Pam, oathtool

REUSE = "DISALLOW_REUSE"


@ALL_WAYS
@pytest.mark.parametrize("front", ["0", "00", "7", "42", "x"])
@pytest.mark.sampled(0.3)
def test_long_answer__is_a_password_and_a_code_where_a_password_can_stand_and_nothing_elsewhere(
    pair: Pair, google_records: Enrolments, way: Way, front: str
) -> None:
    pair.enrol("totp", REUSE)
    code = front + oathtool(google_records.phones["totp"], STEP)[0]
    theirs, ours = pair.theirs(*way.modes).log_in(way, code), pair.ours(*way.modes).log_in(way, code)
    assert theirs.says == (YES if way.combined else NO)
    assert agree(way, ours, theirs)
    if way.combined and "forward_pass" in way.modes:
        assert ours.handed_on == PASSWORD + front


@ALL_WAYS
def test_digits_behind_the_code__are_not_ignored(pair: Pair, google_records: Enrolments, way: Way) -> None:
    pair.enrol("totp", REUSE)
    for behind in ("0", " ", "x", "00"):
        code = oathtool(google_records.phones["totp"], STEP)[0] + behind
        theirs, ours = pair.theirs(*way.modes).log_in(way, code), pair.ours(*way.modes).log_in(way, code)
        assert theirs.says == NO
        # A user may copy a space with the code. Ours accepts it, as it accepts spaces inside.
        assert ours.says == YES if behind == " " else agree(way, ours, theirs)


@ALL_WAYS
def test_scratch_code__goes_before_a_password_that_ends_with_two_digits(pair: Pair, way: Way) -> None:
    pair.enrol("totp", REUSE)
    they, we = pair.theirs(*way.modes), pair.ours(*way.modes)
    for code in (SCRATCH_CODES[0], "0" + SCRATCH_CODES[1]):
        theirs, ours = they.log_in(way, code), we.log_in(way, code)
        assert theirs.says == (YES if way.combined or code == SCRATCH_CODES[0] else NO)
        assert agree(way, ours, theirs)


@ALL_WAYS
def test_zeros_in_front__belong_to_the_code(
    pair: Pair, google_records: Enrolments, standing_clock: Clock, way: Way
) -> None:
    pair.enrol("totp", REUSE)
    codes = oathtool(google_records.phones["totp"], STEP, 100)
    place = next(place for place, code in enumerate(codes) if code[0] == "0")
    standing_clock.set(NOW + 30 * place)
    they, we = pair.theirs(*way.modes), pair.ours(*way.modes)
    for code, expected in ((codes[place][1:], NO), (" " + codes[place][1:], NO), (codes[place], YES)):
        theirs, ours = they.log_in(way, code), we.log_in(way, code)
        assert theirs.says == expected
        assert agree(way, ours, theirs)


@ALL_WAYS
def test_missing_file__is_refused_and_ignored_with_nullok_without_a_question(
    pair: Pair, google_records: Enrolments, way: Way
) -> None:
    pair.enrol("totp", REUSE)
    google_records.remove()
    pair.file.unlink()
    code = oathtool(google_records.phones["totp"], STEP)[0]
    for options, expected in (((), NO), (("nullok",), IGNORE)):
        theirs = pair.theirs(*way.modes, *options).log_in(way, code)
        ours = pair.ours(*way.modes, *options).log_in(way, code)
        assert theirs.says == expected
        assert agree(way, ours, theirs)
        if expected == IGNORE:
            assert (ours.asked, theirs.asked) == (0, 0)


@ALL_WAYS
def test_nullok__asks_users_with_a_file_as_without_the_option(pair: Pair, google_records: Enrolments, way: Way) -> None:
    pair.enrol("totp", REUSE)
    they, we = pair.theirs(*way.modes, "nullok"), pair.ours(*way.modes, "nullok")
    for code, expected in (("123456", NO), ("", NO), (oathtool(google_records.phones["totp"], STEP)[0], YES)):
        theirs, ours = they.log_in(way, code), we.log_in(way, code)
        assert theirs.says == expected
        assert agree(way, ours, theirs)
    google_records.remove(keep_mark=True)
    pair.file.unlink()
    theirs, ours = they.log_in(way, "123456"), we.log_in(way, "123456")
    # Theirs lets in a user who loses the file. Ours knows that there was one.
    assert (theirs.says, ours.says) == (IGNORE, NO)


@ALL_WAYS
def test_damaged_file__is_refused_with_nullok_too(pair: Pair, google_records: Enrolments, way: Way) -> None:
    pair.enrol("totp", REUSE, "RATE_LIMIT 4 120 x")
    (google_records.person.store / "tokens").write_text("{}")
    code = oathtool(google_records.phones["totp"], STEP)[0]
    theirs = pair.theirs(*way.modes, "nullok").log_in(way, code)
    ours = pair.ours(*way.modes, "nullok").log_in(way, code)
    assert theirs.says == NO
    assert agree(way, ours, theirs)


@pytest.mark.parametrize("forward", [(), ("forward_pass",)], ids=["", "forward_pass"])
def test_both_passes__theirs_takes_the_later_one_and_ours_never_asks_then(
    pair: Pair, google_records: Enrolments, forward: tuple[str, ...]
) -> None:
    code = oathtool(google_records.phones["totp"], STEP)[0]
    for modes, expected in (
        (("try_first_pass", "use_first_pass"), (NO, 0)),
        (("use_first_pass", "try_first_pass"), (YES, 1)),
    ):
        pair.enrol("totp", REUSE)
        asked = Way(*modes, *forward, behind=False)
        theirs, ours = pair.theirs(*asked.modes).log_in(asked, code), pair.ours(*asked.modes).log_in(asked, code)
        assert (theirs.says, theirs.asked) == expected
        assert (ours.says, ours.asked) == (NO, 0)


@ALL_WAYS
@pytest.mark.parametrize("password", ["99999999", "in 2026 123456", "geheim \u00e9", "x" * 200])
@pytest.mark.sampled(0.3)
def test_password__of_any_kind_lets_in_and_is_handed_on(
    pair: Pair, google_records: Enrolments, standing_clock: Clock, way: Way, password: str
) -> None:
    pair.enrol("totp", REUSE)
    they, we = pair.theirs(*way.modes), pair.ours(*way.modes)
    # An answer that ends like a code is tried as `try_first_pass` would. That must not make its owner wait.
    for count, code in enumerate(oathtool(google_records.phones["totp"], STEP, 7)):
        standing_clock.set(NOW + 30 * count)
        theirs, ours = they.log_in(way, code, password=password), we.log_in(way, code, password=password)
        assert theirs.says == YES
        assert agree(way, ours, theirs)


@ALL_WAYS
def test_question__is_the_text_of_the_option(pair: Pair, google_records: Enrolments, way: Way) -> None:
    pair.enrol("totp", REUSE)
    they = pair.theirs(*way.modes, "echo_verification_code", "[authtok_prompt=Code of the app: ]")
    we = pair.ours(*way.modes, "echo", "prompt=Code of the app:")
    for code, expected in (("123456", NO), (oathtool(google_records.phones["totp"], STEP)[0], YES)):
        theirs, ours = they.log_in(way, code), we.log_in(way, code)
        assert theirs.says == expected
        assert agree(way, ours, theirs)


@pytest.mark.parametrize(("last", "expected"), [("try_first_pass", PAM_SUCCESS), ("use_first_pass", PAM_AUTH_ERR)])
def test_nullok_with_forward_pass__leaves_the_question_to_the_next_module(
    pam: Pam, google_records: Enrolments, last: str, expected: int
) -> None:
    google_records.remove()
    person = google_records.person
    for line in (
        pam.line(f"backend={pam.installed.backend}", "forward_pass", "nullok"),
        "auth required pam_google_authenticator.so forward_pass nullok\n",
    ):
        outcome = pam.stack(f"{line}auth required pam_unix.so {last} nodelay\n").log_in(person, person.password)
        assert outcome.result == expected
        # It asks only for a password, and not at all if it was told that another module does.
        assert outcome.prompts == (["Password: "] if last == "try_first_pass" else [])


@pytest.mark.parametrize("answer", [NO_ANSWER, FAIL], ids=["none", "cancelled"])
@pytest.mark.parametrize("way", [way for way in WAYS if not way.behind], ids=str)
def test_no_answer__is_refused(pair: Pair, google_records: Enrolments, way: Way, answer: str) -> None:
    pair.enrol("totp", REUSE)
    person = google_records.person
    assert pair.theirs(*way.modes).service.log_in(person, PASSWORD, answer).result == PAM_AUTH_ERR
    # Ours says that the application has done it.
    assert pair.ours(*way.modes).service.log_in(person, PASSWORD, answer).result == PAM_CONV_ERR
