"""Import: other programs' data is carried over. Errors are named, and never repeat the data."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.interchange import reader
from pam_softtoken.interchange.record import Imported
from pam_softtoken.otp.token import HOTPToken, TOTPToken
from pam_softtoken.program_errors import ImportFailed

NOW = 1_700_000_000
STEP = NOW // 30
KEY = b"12345678901234567890"  # RFC 4226, appendix D
KEY_TEXT = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
KEY_HEX = KEY.hex()
# RFC 4226, appendix D: the codes of counters 0 to 9.
CODES = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
PIN = "7351"


def _read(text: str | bytes, **options: Any) -> tuple[Imported, ...]:
    data = text.encode() if isinstance(text, str) else text
    return reader.read(data, path="old", now=NOW, **options).found


def _problems(text: str | bytes, **options: str) -> tuple[str, ...]:
    with pytest.raises(ImportFailed) as caught:
        _read(text, **options)
    shown = f"{caught.value} {caught.value.hint} {caught.value!r}".upper()
    for secret in (KEY_TEXT[:12], KEY_HEX[:12], base64.b64encode(KEY).decode()[:12].upper(), *CODES, PIN):
        assert secret not in shown
    assert caught.value.hint
    assert caught.value.path == "old"
    assert all(problem in caught.value.message for problem in caught.value.problems)
    return caught.value.problems


# google-authenticator


def test_google_file__everything_is_carried_over() -> None:
    text = (
        f'{KEY_TEXT}\n" RATE_LIMIT 3 30 1699999990\n" WINDOW_SIZE 17\n" TIME_SKEW -2\n" RESETTING_TIME_SKEW \n'
        f'" DISALLOW_REUSE {STEP // 2 - 1} {STEP // 2 + 1} {STEP // 2}\n" STEP_SIZE 60\n" TOTP_AUTH\n'
        '" LAST0 192.0.2.7 1699999990\n12345678\n87654321\n'
    )
    (record,) = _read(text)
    assert isinstance(record.token, TOTPToken)
    assert (record.token.secret.reveal(), record.token.period_s, record.token.name) == (KEY, 60, "phone")
    assert (record.token.algorithm, record.token.digits, record.token.created) == ("SHA1", 6, NOW)
    assert (record.last, record.drift, record.scratch_codes) == (STEP // 2 + 1, -2, ("12345678", "87654321"))
    assert (record.user, record.pin, record.place) == ("", "", "line 1")
    assert [note.split(":")[0] for note in record.notes] == [
        "window of 17 codes",
        "limit of logins in a time",
        "hosts that need no code for a while",
    ]


def test_google_file__counter_is_the_next_one() -> None:
    (record,) = _read(f'{KEY_TEXT}\n" HOTP_COUNTER 5\n" TOTP_AUTH\n')
    assert isinstance(record.token, HOTPToken)
    assert (record.token.counter, record.last) == (5, 4)


def test_google_file__missing_record_of_used_codes_is_reported() -> None:
    (record,) = _read(f'{KEY_TEXT}\n" TOTP_AUTH\n')
    assert record.last is None
    assert "accepted more than once" in record.notes[0]


def test_google_file__old_short_key_is_refused_with_the_reason() -> None:
    with pytest.raises(ImportFailed, match=r"line 1: the key has 80 bits, and RFC 4226 asks for 128") as caught:
        _read(f'{KEY_TEXT[:16]}\n" TOTP_AUTH\n')
    assert "enrol again" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{KEY_TEXT}\n", "neither TOTP_AUTH nor HOTP_COUNTER"),
        (f'{KEY_TEXT[:-1]}0\n" TOTP_AUTH\n', "line 1: the key has a 0, 1, 8 or 9"),
        (f'{KEY_TEXT}======\n" TOTP_AUTH\n', "line 1: the key has too many or too few ="),
        (f'{KEY_TEXT * 7}\n" TOTP_AUTH\n', "line 1: a key has 16 to 128 bytes"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" TOTP_AUTH\n', "line 3: TOTP_AUTH is there twice"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" {KEY_TEXT}\n', "line 3: an option that is not known here"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n"WINDOW_SIZE 3\n', "line 3: neither an option nor a scratch code"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n{CODES[0]}\n', "line 3: neither an option nor a scratch code"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n{KEY_TEXT}\n', "line 3: neither an option nor a scratch code"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n11111111\n11111111\n', "line 4: a scratch code is there twice"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" STEP_SIZE 61\n', "line 3: STEP_SIZE is not a number from 1 to 60"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" STEP_SIZE 030\n', "line 3: STEP_SIZE is not a number"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" STEP_SIZE 30 30\n', "line 3: STEP_SIZE is not a number"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" WINDOW_SIZE x\n', "line 3: WINDOW_SIZE is not a number"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" TIME_SKEW 1.5\n', "line 3: TIME_SKEW is not a number"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" TIME_SKEW 1 2\n', "line 3: TIME_SKEW is not a number"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" TIME_SKEW --1\n', "line 3: TIME_SKEW is not a number"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" DISALLOW_REUSE 1 x\n', "line 3: a used time step is not a number"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n" DISALLOW_REUSE {NOW}\n', "a used time step lies far in the future"),
        (f'{KEY_TEXT}\n" HOTP_COUNTER 0\n', "line 2: HOTP_COUNTER is not a number from 1"),
        (f'{KEY_TEXT}\n" HOTP_COUNTER\n', "line 2: HOTP_COUNTER is not a number from 1"),
        (f'{KEY_TEXT}\n" HOTP_COUNTER {"9" * 5000}\n', "line 2: HOTP_COUNTER is not a number from 1"),
        (f'{KEY_TEXT}\n" TOTP_AUTH\n\xff'.encode("latin-1"), "line 3: not UTF-8"),
    ],
)
def test_google_file__mistake_is_refused_with_its_place(text: str | bytes, problem: str) -> None:
    (told,) = _problems(text, kind="google-authenticator")
    assert problem in told


def test_google_file__all_mistakes_are_reported() -> None:
    told = _problems(f'{KEY_TEXT[:16]}\n" NO_SUCH 1\n1234567\n')
    assert [problem.split(":")[0] for problem in told] == ["line 1", "line 2", "line 3"]


# pam_oath


def test_users_file__many_users() -> None:
    text = f"""# made by hand
HOTP            alice   -       {KEY_HEX}
\tHOTP/E/8\tbob +\t{KEY_HEX.upper()}\t7
HOTP/T30/6 carol {PIN} {KEY_HEX}

HOTP/T60/7 alice - {"00" * 32}
HOTP dave - {KEY_HEX} 3 {CODES[3]} 2023-11-14T22:13:20L
HOTP/E erin - {KEY_HEX} 0 {CODES[0]} 2023-11-14T22:13:20L
"""
    alice, bob, carol, again, dave, erin = _read(text)
    assert isinstance(alice.token, HOTPToken)
    assert (alice.user, alice.token.name, alice.token.counter, alice.last) == ("alice", "phone", 0, None)
    assert isinstance(bob.token, HOTPToken)
    assert (bob.user, bob.token.digits, bob.token.counter, bob.last) == ("bob", 8, 7, 6)
    assert bob.notes == ("the PIN was checked by another module",)
    assert isinstance(carol.token, TOTPToken)
    assert (carol.token.period_s, carol.token.digits, carol.pin) == (30, 6, PIN)
    assert PIN not in repr(carol)
    assert isinstance(again.token, TOTPToken)
    assert (again.user, again.token.name, again.token.period_s, again.place) == ("alice", "phone 2", 60, "line 6")
    assert isinstance(dave.token, HOTPToken)
    assert (dave.token.counter, dave.last) == (4, 3)
    assert isinstance(erin.token, HOTPToken)
    assert (erin.token.counter, erin.last) == (1, 0)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("HOTP alice -", "3 fields"),
        (f"HOTP alice - {KEY_HEX} 1 {CODES[1]}", "6 fields"),
        (f"HOTP alice - {KEY_HEX} 1 {CODES[1]} 2023-11-14T22:13:20L x", "8 fields"),
        (f"HOTP alice {KEY_HEX} -", "the key is not hexadecimal"),
        (f"HOTP alice - {KEY_HEX[1:]}", "the key is not hexadecimal"),
        (f"HOTP alice - {KEY_HEX[:20]}", "the key has 80 bits"),
        (f"HOTP/T45 alice - {KEY_HEX}", "the type is none of"),
        (f"HOTP/E/9 alice - {KEY_HEX}", "the type is none of"),
        (f"HOTP/6 alice - {KEY_HEX}", "the type is none of"),
        (f"{KEY_HEX} alice - {KEY_HEX}", "the type is none of"),
        (f"HOTP al\x07ice - {KEY_HEX}", "the user's name cannot be printed"),
        (f"HOTP alice - {KEY_HEX} -1", "the counter is not a number"),
        (f"HOTP alice - {KEY_HEX} # new", "6 fields"),
        (f"HOTP alice - {KEY_HEX} {KEY_HEX}", "the counter is not a number"),
        (f"HOTP alice - {KEY_HEX} 2 {CODES[1]} 2023-11-14T22:13:20L", "not that of the counter"),
        (f"HOTP alice - {KEY_HEX} 1 0{CODES[1]} 2023-11-14T22:13:20L", "does not have 6 digits"),
        (f"HOTP alice - {KEY_HEX} 1 {CODES[1]} 14.11.2023", "the time of the last code"),
        (f"HOTP/T30 alice - {KEY_HEX} 2001 {CODES[1]} 2023-11-14T22:13:20L", "more than 2000 time steps away"),
        (f"HOTP/E/6 carol - {KEY_HEX}", "the user has the same key in line 1"),
    ],
)
def test_users_file__mistake_is_refused_with_its_line(line: str, problem: str) -> None:
    (told,) = _problems(f"HOTP carol - {KEY_HEX}\n{line}\n")
    assert told.startswith(("line 2: ", "line 2 (alice): ", "line 2 (carol): "))
    assert problem in told


def test_users_file__all_mistakes_are_reported() -> None:
    told = _problems(f"HOTP a - {KEY_HEX}\nHOTP b\nHOTP c - {KEY_HEX} x\nHOTP d - {KEY_HEX}\nTOTP e - {KEY_HEX}\n")
    assert [problem.split(":")[0] for problem in told] == ["line 2", "line 3 (c)", "line 5 (e)"]


def test_users_file__message_of_many_mistakes_stays_short() -> None:
    with pytest.raises(ImportFailed) as caught:
        _read("HOTP x\n" * 5000)
    assert len(caught.value.problems) == 5000
    assert caught.value.message.endswith("line 20: 2 fields, and not 4, 5 or 7; and 4980 more")


def test_users_file__used_time_step_is_found_without_its_time() -> None:
    # RFC 6238, appendix B, shortened to 6 digits: the code of second 1111111109 is 07081804, of 1111111111 14050471.
    line = f"HOTP/T30/8 alice - {KEY_HEX} 1 14050471 2005-03-18T01:58:29L\n"
    (ahead,) = reader.read(line.encode(), path="old", now=1_111_111_109).found
    assert ahead.last == 1_111_111_111 // 30
    (passed,) = reader.read(line.encode(), path="old", now=1_111_111_109 + 3600).found
    assert passed.last is None


# what it is at all


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "the file is empty"),
        (b" \r\n\n", "the file is empty"),
        (b"# nothing\n", "no format that is known here"),
        (b"hello world\n", "no format that is known here"),
        (b"\0" * 100, "no format that is known here"),
        (b"PK\x03\x04", "no format that is known here"),
        (b"\xff\xfe<\0", "line 1: not UTF-8 text"),
        (b"a" * (2**22 + 1), "larger than 4194304 bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(2**20), "larger than 1048576 bytes"),
        (b'{"version": 1}', "no format that is known here"),
    ],
)
def test_importer__unknown_format_is_refused(data: bytes, problem: str) -> None:
    assert _problems(data) == (problem,)


def test_importer__kind_that_is_given_is_not_guessed() -> None:
    for kind in reader.KINDS:
        if kind != "pam_oath":
            _problems(f"HOTP alice - {KEY_HEX}\n", kind=kind)
    with pytest.raises(ValueError, match="no such kind"):
        _read("x", kind="other")


def test_importer__line_ends_and_marks_of_other_systems_change_nothing() -> None:
    (record,) = _read(f'\ufeff{KEY_TEXT}\r\n" TOTP_AUTH\r\n12345678\r\n')
    assert record.token.secret.reveal() == KEY
    assert record.scratch_codes == ("12345678",)


def test_importer__nothing_secret_shows_itself() -> None:
    (record,) = _read(f'{KEY_TEXT}\n" TOTP_AUTH\n12345678\n')
    shown = repr(record)
    assert "12345678" not in shown
    assert KEY_TEXT not in shown
    assert not re.search(r"b'|b\"", shown)


PSKC = b"""<?xml version="1.0"?><KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc"><KeyPackage>
<Key Id="1" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:totp"><Data><Secret><PlainValue>
MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret><TimeInterval><PlainValue>30</PlainValue></TimeInterval>
</Data><Policy><ExpiryDate>2037-12-31T00:00:00Z</ExpiryDate></Policy></Key></KeyPackage></KeyContainer>"""
MIGRATION = "otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8SGEV4YW1wbGU6YWxpY2VAZ29vZ2xlLmNvbRoHRXhhbXBsZTAC"
PIECES = [
    f"{KEY_TEXT}\n".encode(),
    b'" TOTP_AUTH\n" DISALLOW_REUSE 1 2\n" TIME_SKEW -3\n12345678\n',
    f"HOTP/T30/6\talice\t-\t{KEY_HEX}\t0\t{CODES[0]}\t2023-11-14T22:13:20L\n".encode(),
    f"otpauth://totp/a%3Ab?secret={KEY_TEXT}&issuer=a&digits=8&period=60&algorithm=SHA256\n".encode(),
    f"{MIGRATION}\n".encode(),
    PSKC,
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\1\0\0\0\0\x37\x6e\xf9\x24\0\0\0\nIDATx\x9cch\0\0\0\x82\0\x81wa\xd5n",
]


@given(
    st.one_of(st.binary(max_size=200), st.sampled_from(PIECES)),
    st.sampled_from([None, *reader.KINDS]),
    st.sampled_from([None, "", "qwerty", "00" * 16]),
    st.data(),
)
def test_importer__arbitrary_bytes_raise_nothing_else(
    start: bytes, kind: str | None, passphrase: str | None, data: st.DataObject
) -> None:
    text = bytearray(start)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from(PIECES))
        )
    try:
        found = reader.read(bytes(text), path="old", now=NOW, kind=kind, passphrase=passphrase).found
    except ImportFailed as error:
        refused = error
        found = ()
    if not found:
        assert refused.problems
        assert refused.hint
        assert f"{refused.message}{refused.hint}".isprintable()
    for record in found:
        assert len(record.token.otp_at(0)) == record.token.digits
        assert record.last is None or record.last >= 0


# entries that cannot be used


def test_skipping__returns_the_other_entries_of_each_format_with_many() -> None:
    uris = f"otpauth://totp/a?secret={KEY_TEXT}\notpauth://totp/b?secret=GEZDGNBVGY3TQOJQ\nnonsense://\n"
    users = f"HOTP a - {KEY_HEX}\nHOTP b - 31323334353637383930\nHOTP c - {KEY_HEX} x\n"
    for text, told in ((uris, ["line 2", "line 3"]), (users, ["line 2 (b)", "line 3 (c)"])):
        harvest = reader.read(text.encode(), path="file", now=NOW, skipping=True)
        assert len(harvest.found) == 1
        assert [each.text.partition(":")[0] for each in harvest.unusable] == told
        with pytest.raises(ImportFailed) as caught:
            reader.read(text.encode(), path="file", now=NOW)
        assert caught.value.problems == tuple(each.text for each in harvest.unusable)


@pytest.mark.parametrize("text", ["HOTP x\n", "", "nonsense", f"{KEY_TEXT}\n1234567\n", f"{KEY_TEXT}\n"])
def test_skipping__file_without_one_usable_entry_is_refused(text: str) -> None:
    with pytest.raises(ImportFailed):
        reader.read(text.encode(), path="file", now=NOW, skipping=True)


def test_skipping__word_in_the_place_of_a_user_is_named_only_if_it_is_one() -> None:
    text = f"HOTP a - {KEY_HEX}\nHOTP alice - {KEY_HEX}zz\nHOTP 4711 - {KEY_HEX}zz\n"
    harvest = reader.read(text.encode(), path="file", now=NOW, skipping=True, is_login=lambda word: word == "alice")
    assert [(each.place, each.user) for each in harvest.unusable] == [("line 2", "alice"), ("line 3", "")]
