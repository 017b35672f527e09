"""OCRA against the vectors of RFC 6287, against an independent model, and against suites that the RFC does not have."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.otp import ocra
from pam_softtoken.otp.ocra import OCRAToken, Suite, compute
from pam_softtoken.otp.token import Secret, Token
from pam_softtoken.program_errors import BadSuite

# RFC 6287, appendix C: three keys, the SHA-1 of the PIN 1234, and the time 2008-03-25 12:06:30 UTC in minutes.
KEY_20 = b"12345678901234567890"
KEY_32 = b"12345678901234567890123456789012"
KEY_64 = b"1234567890123456789012345678901234567890123456789012345678901234"
PIN = bytes.fromhex("7110eda4d09e062aa5e4a390b0a572ac0d2c0220")
MINUTES = 0x132D0B6

ONE_WAY = ["237653", "243178", "653583", "740991", "608993", "388898", "816933", "224598", "750600", "294470"]
WITH_COUNTER_AND_PIN = [
    "65347737", "86775851", "78192410", "71565254", "10104329", "65983500", "70069104", "91771096", "75011558",
    "08522129",
]  # fmt: skip
WITH_PIN = ["83238735", "01501458", "17957585", "86776967", "86807031"]
WITH_COUNTER = [
    "07016083", "63947962", "70123924", "25341727", "33203315", "34205738", "44343969", "51946085", "20403879",
    "31409299",
]  # fmt: skip
WITH_TIME = ["95209754", "55907591", "22048402", "24218844", "36209546"]
SERVER_256 = ["28247970", "01984843", "65387857", "03351211", "83412541"]
CLIENT_256 = ["15510767", "90175646", "33777207", "95285278", "28934924"]
SERVER_512 = ["79496648", "76831980", "12250499", "90856481", "12761449"]
CLIENT_512 = ["18806276", "70020315", "01600026", "18951020", "32528969"]
SIGNATURE = ["53095496", "04110475", "31331128", "76028668", "46554205"]
SIGNATURE_WITH_TIME = ["77537423", "31970405", "10235557", "95213541", "65360607"]

STEPS = {
    **{f"{n}S": n for n in range(1, 60)},
    **{f"{n}M": 60 * n for n in range(1, 60)},
    **{f"{n}H": 3600 * n for n in range(1, 49)},
}
MACS = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}
GRAMMAR = re.compile(
    r"OCRA-1:HOTP-SHA(1|256|512)-(0|[4-9]|10):(C-)?Q[ANH](0[4-9]|[1-5][0-9]|6[0-4])(-PSHA(1|256|512))?"
    r"(-S(?!000)([0-4][0-9][0-9]|50[0-9]|51[0-2]))?(-T([1-9]S|[1-5][0-9]S|[1-9]M|[1-5][0-9]M|[1-9]H|[1-3][0-9]H|4[0-8]H))?"
)
"""A second opinion on which suites there are."""


@pytest.mark.parametrize(("number", "expected"), list(enumerate(ONE_WAY)))
def test_ocra__rfc_6287_one_way(number: int, expected: str) -> None:
    assert compute(Suite.parse("OCRA-1:HOTP-SHA1-6:QN08"), KEY_20, question=str(number) * 8) == expected


@pytest.mark.parametrize(("counter", "expected"), list(enumerate(WITH_COUNTER_AND_PIN)))
def test_ocra__rfc_6287_counter_and_pin(counter: int, expected: str) -> None:
    suite = Suite.parse("OCRA-1:HOTP-SHA256-8:C-QN08-PSHA1")
    assert compute(suite, KEY_32, question="12345678", counter=counter, pin_hash=PIN) == expected


@pytest.mark.parametrize(("number", "expected"), list(enumerate(WITH_PIN)))
def test_ocra__rfc_6287_pin(number: int, expected: str) -> None:
    suite = Suite.parse("OCRA-1:HOTP-SHA256-8:QN08-PSHA1")
    assert compute(suite, KEY_32, question=str(number) * 8, pin_hash=PIN) == expected


@pytest.mark.parametrize(("counter", "expected"), list(enumerate(WITH_COUNTER)))
def test_ocra__rfc_6287_counter(counter: int, expected: str) -> None:
    suite = Suite.parse("OCRA-1:HOTP-SHA512-8:C-QN08")
    assert compute(suite, KEY_64, question=str(counter) * 8, counter=counter) == expected


@pytest.mark.parametrize(("number", "expected"), list(enumerate(WITH_TIME)))
def test_ocra__rfc_6287_time(number: int, expected: str) -> None:
    suite = Suite.parse("OCRA-1:HOTP-SHA512-8:QN08-T1M")
    assert compute(suite, KEY_64, question=str(number) * 8, time_step=MINUTES) == expected


@pytest.mark.parametrize("number", range(5))
def test_ocra__rfc_6287_mutual(number: int) -> None:
    client, server = f"CLI2222{number}", f"SRV1111{number}"
    short, long = Suite.parse("OCRA-1:HOTP-SHA256-8:QA08"), Suite.parse("OCRA-1:HOTP-SHA512-8:QA08")
    with_pin = Suite.parse("OCRA-1:HOTP-SHA512-8:QA08-PSHA1")
    assert compute(short, KEY_32, question=client + server) == SERVER_256[number]
    assert compute(short, KEY_32, question=server + client) == CLIENT_256[number]
    assert compute(long, KEY_64, question=client + server) == SERVER_512[number]
    assert compute(with_pin, KEY_64, question=server + client, pin_hash=PIN) == CLIENT_512[number]


@pytest.mark.parametrize("number", range(5))
def test_ocra__rfc_6287_plain_signature(number: int) -> None:
    plain, timed = Suite.parse("OCRA-1:HOTP-SHA256-8:QA08"), Suite.parse("OCRA-1:HOTP-SHA512-8:QA10-T1M")
    assert compute(plain, KEY_32, question=f"SIG1{number}000") == SIGNATURE[number]
    assert compute(timed, KEY_64, question=f"SIG1{number}00000", time_step=MINUTES) == SIGNATURE_WITH_TIME[number]


def model(text: str, key: bytes, question: str, values: dict[str, bytes]) -> str:
    """Compute a response with the standard library, from the text of RFC 6287, section 5.1."""
    _, function, inputs = text.split(":")
    _, algorithm, digits = function.split("-")
    kind = re.search(r"Q([ANH])", inputs)
    assert kind is not None
    coded = {
        "A": question.encode().hex(),
        "N": f"{int(question):X}" if question.isdigit() else "",
        "H": question,
    }[kind[1]]
    coded += "0" * (256 - len(coded))
    data = text.encode() + b"\0" + values.get("C", b"") + bytes.fromhex(coded)
    data += values.get("P", b"") + values.get("S", b"") + values.get("T", b"")
    digest = hmac.new(key, data, MACS[algorithm]).digest()
    if digits == "0":
        return digest.hex()
    place = digest[-1] % 16
    number = int.from_bytes(digest[place : place + 4], "big") % 2**31
    return f"{number:0{digits}d}"[-int(digits) :]


@st.composite
def suites(draw: st.DrawFn) -> str:
    words = ["C"] if draw(st.booleans()) else []
    words.append("Q" + draw(st.sampled_from("ANH")) + f"{draw(st.integers(4, 64)):02}")
    words += draw(st.sampled_from([[], ["PSHA1"], ["PSHA256"], ["PSHA512"]]))
    words += [f"S{draw(st.integers(1, 512)):03}"] if draw(st.booleans()) else []
    words += ["T" + draw(st.sampled_from(sorted(STEPS)))] if draw(st.booleans()) else []
    digits = draw(st.sampled_from([0, *range(4, 11)]))
    return f"OCRA-1:HOTP-{draw(st.sampled_from(sorted(MACS)))}-{digits}:{'-'.join(words)}"


@given(suites(), st.binary(min_size=1, max_size=200), st.data())
def test_ocra__agrees_with_an_independent_model(text: str, key: bytes, data: st.DataObject) -> None:
    suite = Suite.parse(text)
    letters = {"A": "aZ09", "N": "0123456789", "H": "0123456789abcdefABCDEF"}[suite.question_kind]
    question = data.draw(st.text(letters, min_size=1, max_size=2 * suite.question_characters))
    numbers = st.integers(0, 2**64 - 1)
    counter = data.draw(numbers) if suite.has_counter else None
    step = data.draw(numbers) if suite.step_s else None
    pin = MACS[suite.pin_algorithm](b"1234").digest() if suite.pin_algorithm else None
    session = data.draw(st.binary(max_size=suite.session_bytes)) if suite.session_bytes else None
    values = {
        **({"C": counter.to_bytes(8, "big")} if counter is not None else {}),
        **({"P": pin} if pin is not None else {}),
        **({"S": bytes(suite.session_bytes - len(session)) + session} if session is not None else {}),
        **({"T": step.to_bytes(8, "big")} if step is not None else {}),
    }
    found = compute(suite, key, question=question, counter=counter, pin_hash=pin, session=session, time_step=step)
    assert found == model(text, key, question, values)


@given(suites())
def test_suite__of_the_rfc_is_read_and_kept_as_it_is(text: str) -> None:
    suite = Suite.parse(text)
    assert GRAMMAR.fullmatch(text)
    assert suite.text == text
    assert suite.step_s == STEPS.get(text.rpartition("-T")[2], 0) if "-T" in text else suite.step_s == 0


@given(suites(), st.data())
def test_suite__changed_in_one_character_is_another_suite_or_none(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text)))
    new = data.draw(st.sampled_from(["", *"OCRAHTPSQNM-:0123456789 \0²"]))
    changed = text[:place] + new + text[place + 1 :]
    if GRAMMAR.fullmatch(changed):
        assert Suite.parse(changed).text == changed
    else:
        with pytest.raises(BadSuite):
            Suite.parse(changed)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "::", "OCRA-1", "OCRA-1:HOTP-SHA1-6", "OCRA-1:HOTP-SHA1-6:", "OCRA-1:HOTP-SHA1-6:C",
        "OCRA-1:HOTP-SHA1-6:C-", "OCRA-2:HOTP-SHA1-6:QN08", "ocra-1:HOTP-SHA1-6:QN08", "OCRA-1:HOTP-SHA224-6:QN08",
        "OCRA-1:HOTP-MD5-6:QN08", "OCRA-1:TOTP-SHA1-6:QN08", "OCRA-1:HOTP-SHA1:QN08", "OCRA-1:HOTP-SHA1-3:QN08",
        "OCRA-1:HOTP-SHA1-11:QN08", "OCRA-1:HOTP-SHA1-06:QN08", "OCRA-1:HOTP-SHA1-00:QN08", "OCRA-1:HOTP-SHA1-6:QN03",
        "OCRA-1:HOTP-SHA1-6:QN65", "OCRA-1:HOTP-SHA1-6:QN8", "OCRA-1:HOTP-SHA1-6:QN", "OCRA-1:HOTP-SHA1-6:QB08",
        "OCRA-1:HOTP-SHA1-6:QN08-C", "OCRA-1:HOTP-SHA1-6:QN08-QN08", "OCRA-1:HOTP-SHA1-6:QN08-PSHA384",
        "OCRA-1:HOTP-SHA1-6:QN08-P", "OCRA-1:HOTP-SHA1-6:QN08-S", "OCRA-1:HOTP-SHA1-6:QN08-S000",
        "OCRA-1:HOTP-SHA1-6:QN08-S513", "OCRA-1:HOTP-SHA1-6:QN08-S64", "OCRA-1:HOTP-SHA1-6:QN08-T",
        "OCRA-1:HOTP-SHA1-6:QN08-T0S", "OCRA-1:HOTP-SHA1-6:QN08-T0H", "OCRA-1:HOTP-SHA1-6:QN08-T60S",
        "OCRA-1:HOTP-SHA1-6:QN08-T60M", "OCRA-1:HOTP-SHA1-6:QN08-T49H", "OCRA-1:HOTP-SHA1-6:QN08-T01M",
        "OCRA-1:HOTP-SHA1-6:QN08-T1D", "OCRA-1:HOTP-SHA1-6:QN08-TS", "OCRA-1:HOTP-SHA1-6:QN08-T1M-S064",
        "OCRA-1:HOTP-SHA1-6:QN08-S064-PSHA1", "OCRA-1:HOTP-SHA1-6:QN08-PSHA1-PSHA1", "OCRA-1:HOTP-SHA1-6:QN08:T1M",
        "OCRA-1:HOTP-SHA1-6:QN08-", "OCRA-1:HOTP-SHA1-6: QN08", "OCRA-1:HOTP-SHA1-6:QN0\u0668", "OCRA-1:" * 100,
    ],
)  # fmt: skip
def test_suite__outside_the_rfc_is_refused(text: str) -> None:
    assert not GRAMMAR.fullmatch(text)
    with pytest.raises(BadSuite):
        Suite.parse(text)


def test_suite__without_truncation_answers_with_the_whole_mac() -> None:
    response = compute(Suite.parse("OCRA-1:HOTP-SHA256-0:QN08"), KEY_32, question="00000000")
    assert len(bytes.fromhex(response)) == 32


GIVEN = {"counter": 0, "pin_hash": PIN, "session": b"", "time_step": 0}
FULL_SUITE = Suite.parse("OCRA-1:HOTP-SHA1-6:C-QN08-PSHA1-S064-T1M")


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_compute__refuses_a_missing_input_and_one_that_the_suite_has_not(name: str) -> None:
    compute(FULL_SUITE, KEY_20, question="1", **GIVEN)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing"):
        compute(FULL_SUITE, KEY_20, question="1", **{**GIVEN, name: None})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not for this suite"):
        compute(Suite.parse("OCRA-1:HOTP-SHA1-6:QN08"), KEY_20, question="1", **{name: GIVEN[name]})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"counter": -1}, {"counter": 2**64}, {"pin_hash": b""}, {"pin_hash": PIN + b"\0"}, {"session": bytes(65)},
        {"time_step": -1}, {"time_step": 2**64}, {"question": ""}, {"question": "1" * 17}, {"question": "a"},
        {"question": " 1"}, {"question": "\u0661"},
    ],
)  # fmt: skip
def test_compute__refuses_a_value_out_of_range(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        compute(FULL_SUITE, KEY_20, **{"question": "1", **GIVEN, **changed})  # type: ignore[arg-type]


def test_token__is_no_one_time_password() -> None:
    token = OCRAToken("laptop", Secret(KEY_32), suite=Suite.parse(ocra.SIGNING_SUITE), created=0)
    assert not isinstance(token, Token)
    assert not hasattr(token, "otp_at")
    assert not hasattr(token, "matching")


def test_token__fingerprint_covers_key_and_suite_only() -> None:
    texts = (ocra.SIGNING_SUITE, "OCRA-1:HOTP-SHA256-8:QH63")
    tokens = [
        OCRAToken("a", Secret(key), suite=Suite.parse(text), created=0)
        for key, text in itertools.product((KEY_20, KEY_32), texts)
    ]
    assert len({token.fingerprint() for token in tokens}) == 4
    same = OCRAToken("b", Secret(KEY_20), suite=Suite.parse(texts[0]), created=9)
    assert same.fingerprint() == tokens[0].fingerprint()
