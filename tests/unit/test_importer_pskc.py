"""PSKC files: the examples of RFC 6030 with the values given there, and files that could do harm."""

from __future__ import annotations

import base64
import io
import subprocess
import time
from pathlib import Path

import pskc
import pytest

from pam_softtoken.interchange import reader
from pam_softtoken.interchange.record import Imported
from pam_softtoken.otp.token import HOTPToken, TOTPToken
from pam_softtoken.program_errors import ImportFailed
from tests.support.tools import needs, needs_debians_python

TREE = Path(__file__).resolve().parents[2]
NOW = 1_700_000_000
KEY = b"12345678901234567890"
KEY_TEXT = base64.b64encode(KEY).decode()  # as in RFC 6030, figure 3
NAMESPACE = "urn:ietf:params:xml:ns:keyprov:pskc"
CIPHERS = "http://www.w3.org/2001/04/xmlenc#"


def _key(
    data: str, *, kind: str = "hotp", more: str = "", digits: str = '<ResponseFormat Length="8" Encoding="DECIMAL"/>'
) -> str:
    return (
        "<KeyPackage>\n<DeviceInfo><SerialNo>987654321</SerialNo></DeviceInfo>\n"
        f'<Key Id="1" Algorithm="{NAMESPACE}:{kind}">'
        f"<Issuer>Issuer</Issuer><AlgorithmParameters>{digits}</AlgorithmParameters><Data>{data}</Data>{more}</Key></KeyPackage>\n"
    )


def _file(*packages: str, before: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<KeyContainer Version="1.0" xmlns="{NAMESPACE}" '
        f'xmlns:xenc="{CIPHERS}">{before}{"".join(packages)}</KeyContainer>\n'
    )


def _plain(name: str, value: str) -> str:
    return f"<{name}><PlainValue>{value}</PlainValue></{name}>"


SECRET = _plain("Secret", KEY_TEXT)


def _read(text: str | bytes, *, now: int = NOW, passphrase: str | None = None) -> tuple[Imported, ...]:
    data = text.encode() if isinstance(text, str) else text
    return reader.read(data, path="keys.xml", now=now, passphrase=passphrase).found


def _problem(text: str | bytes, *, now: int = NOW, passphrase: str | None = None) -> str:
    with pytest.raises(ImportFailed) as caught:
        _read(text, now=now, passphrase=passphrase)
    shown = f"{caught.value!r} {caught.value} {caught.value.hint}"
    assert KEY_TEXT[:10] not in shown
    assert "qwerty" not in shown
    assert caught.value.hint
    return " | ".join(caught.value.problems)


def test_pskc__figure_3_has_user_and_counter() -> None:
    more = "<UserId>UID=jsmith,DC=example-bank,DC=net</UserId>"
    (record,) = _read(_file(_key(f"{SECRET}{_plain('Counter', '0')}", more=more)))
    assert isinstance(record.token, HOTPToken)
    assert (record.token.secret.reveal(), record.token.digits, record.token.counter) == (KEY, 8, 0)
    assert (record.user, record.token.name, record.place, record.last) == ("jsmith", "Issuer 987654321", "line 4", None)
    assert record.notes == ()


@pytest.mark.parametrize(
    ("told", "user"),
    [
        ("jsmith", "jsmith"),
        ("uid=j.smith-2", "j.smith-2"),
        ("DC=example-bank,DC=net", ""),
        ("Smith, John", ""),
        ("UID=../x,DC=net", ""),
        ("-x", ""),
    ],
)
def test_pskc__user_is_one_that_can_log_in(told: str, user: str) -> None:
    (record,) = _read(_file(_key(f"{SECRET}{_plain('Counter', '0')}", more=f"<UserId>{told}</UserId>")))
    assert record.user == user
    assert record.notes == (() if user else ("the user's name in the file is not a login name",))


def test_pskc__byte_order_mark_changes_nothing() -> None:
    assert _read(b"\xef\xbb\xbf" + _file(_key(SECRET)).encode())[0].token.secret.reveal() == KEY


def test_pskc__figure_2_has_a_key_that_is_too_short() -> None:
    problem = _problem(_file(_key(_plain("Secret", "MTIzNA=="), digits="")))
    assert problem == "line 4: the key has 32 bits, and RFC 4226 asks for 128 at least"


def test_pskc__figure_4_does_not_have_the_key_itself() -> None:
    assert "line 4: the key itself is not in the file" in _problem(_file(_key(_plain("Counter", "0"))))


FIGURE_5_PIN = f"""<KeyPackage><Key Id="123456781" Algorithm="{NAMESPACE}:pin"><AlgorithmParameters>
<ResponseFormat Length="4" Encoding="DECIMAL"/></AlgorithmParameters>
<Data><Secret><PlainValue>MTIzNA==</PlainValue></Secret></Data></Key></KeyPackage>"""


@pytest.mark.parametrize(
    ("usage", "pin", "note"),
    [
        ("Local", "", "the token itself asks for a PIN"),
        ("Prepend", "1234", ""),
        ("Append", "1234", "the PIN is typed behind the code"),
    ],
)
def test_pskc__figure_5_has_a_pin(usage: str, pin: str, note: str) -> None:
    policy = (
        '<Policy><PINPolicy MinLength="4" MaxLength="4" PINKeyId="123456781" PINEncoding="DECIMAL" '
        f'PINUsageMode="{usage}"/><KeyUsage>OTP</KeyUsage></Policy>'
    )
    (record,) = _read(_file(_key(f"{SECRET}{_plain('Counter', '0')}", more=policy), FIGURE_5_PIN))
    assert record.pin == pin
    assert record.notes == ((note,) if note else ())
    assert "1234'" not in repr(record)


def _encrypted(value: str, mac: str) -> str:
    return (
        f'<Secret><EncryptedValue><xenc:EncryptionMethod Algorithm="{CIPHERS}aes128-cbc"/><xenc:CipherData>'
        f"<xenc:CipherValue>{value}</xenc:CipherValue></xenc:CipherData></EncryptedValue>{mac}</Secret>"
    )


def _mac_key(value: str) -> str:
    return (
        '<MACMethod Algorithm="http://www.w3.org/2000/09/xmldsig#hmac-sha1"><MACKey>'
        f'<xenc:EncryptionMethod Algorithm="{CIPHERS}aes128-cbc"/><xenc:CipherData>'
        f"<xenc:CipherValue>{value}</xenc:CipherValue></xenc:CipherData></MACKey></MACMethod>"
    )


FIGURE_6 = _file(
    _key(
        _encrypted(
            "AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv",
            "<ValueMAC>Su+NvtQfmvfJzF6bmQiJqoLRExc=</ValueMAC>",
        )
        + _plain("Counter", "0")
    ),
    before='<EncryptionKey><ds:KeyName xmlns:ds="http://www.w3.org/2000/09/xmldsig#">Pre-shared-key</ds:KeyName>'
    "</EncryptionKey>" + _mac_key("ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX"),
)
FIGURE_6_KEY = "12345678901234567890123456789012"


def _figure_7(iterations: str = "1000", length: str = "16") -> str:
    derivation = (
        '<EncryptionKey><x:DerivedKey xmlns:x="http://www.w3.org/2009/xmlenc11#"><x:KeyDerivationMethod '
        'Algorithm="http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#pbkdf2"><p:PBKDF2-params '
        'xmlns:p="http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#"><Salt><Specified>Ej7/PEpyEpw='
        f"</Specified></Salt><IterationCount>{iterations}</IterationCount><KeyLength>{length}</KeyLength><PRF/>"
        "</p:PBKDF2-params></x:KeyDerivationMethod></x:DerivedKey></EncryptionKey>"
    )
    value = _encrypted(
        "oTvo+S22nsmS2Z/RtcoF8Hfh+jzMe0RkiafpoDpnoZTjPYZu6V+A4aEn032yCr4f",
        "<ValueMAC>LP6xMvjtypbfT9PdkJhBZ+D6O4w=</ValueMAC>",
    )
    before = derivation + _mac_key("2GTTnLwM3I4e5IO5FkufoOEiOhNj91fhKRQBtBJYluUDsPOLTfUvoU2dStyOwYZx")
    return _file(_key(value), before=before)


def test_pskc__figure_6_is_opened_by_its_pre_shared_key() -> None:
    (record,) = _read(FIGURE_6, passphrase=FIGURE_6_KEY)
    assert record.token.secret.reveal() == KEY


def test_pskc__figure_7_is_opened_by_its_passphrase() -> None:
    (record,) = _read(_figure_7(), passphrase="qwerty")
    assert record.token.secret.reveal() == KEY
    assert record.notes == ("the file has no counter; a new token begins with 0",)


@pytest.mark.parametrize(
    ("text", "passphrase", "problem"),
    [
        (FIGURE_6, None, "the file is encrypted"),
        (FIGURE_6, "qwerty", "the pre-shared key is not hexadecimal"),
        (FIGURE_6, "00" * 16, "the passphrase does not open the key"),
        (FIGURE_6, "00" * 15, "the passphrase does not open the key"),
        (FIGURE_6, "", "the passphrase does not open the key"),
        (FIGURE_6.replace("Su+N", "Su+M"), FIGURE_6_KEY, "the passphrase does not open the key"),
        (FIGURE_6.replace("AAEC", "AAED"), FIGURE_6_KEY, "the passphrase does not open the key"),
        (FIGURE_6.replace("<ValueMAC>Su+NvtQfmvfJzF6bmQiJqoLRExc=</ValueMAC>", ""), FIGURE_6_KEY, "without ValueMAC"),
        (_figure_7(), "qwertz", "the passphrase does not open the key"),
        (_figure_7(), "", "the key cannot be derived"),
        (_figure_7("100000000000"), "qwerty", "PBKDF2 takes 1 to 10000000 iterations"),
        (_figure_7("-1"), "qwerty", "PBKDF2 takes 1 to 10000000 iterations"),
        (_figure_7(length="1000000"), "qwerty", "PBKDF2 takes 1 to 10000000 iterations for 1 to 64 bytes"),
    ],
)
def test_pskc__wrong_passphrase_or_damage_is_an_error(text: str, passphrase: str | None, problem: str) -> None:
    assert problem in _problem(text, passphrase=passphrase)


def test_pskc__figure_10_has_keys_that_expire() -> None:
    months = [("2006-05-01", "2006-05-31"), ("2006-03-01", "2006-03-31")]
    packages = [
        _key(
            f"{SECRET}{_plain('Counter', '0')}",
            more=f"<Policy><StartDate>{start}T00:00:00Z</StartDate><ExpiryDate>{end}T00:00:00Z</ExpiryDate></Policy>",
        )
        for start, end in months
    ]
    may = 1_147_651_200  # 15 May 2006
    (record,) = _read(_file(packages[0]), now=may)
    assert record.notes == ("the file says when the key expires; here no token does",)
    assert _problem(_file(*packages), now=may).startswith("line 7: the file says that the key")
    assert _problem(_file(*packages), now=may).count("line") == 1
    assert _problem(_file(*packages)).count("has expired") == 2


def test_pskc__token_that_goes_by_the_clock() -> None:
    data = SECRET + _plain("Time", str(NOW // 60)) + _plain("TimeInterval", "60") + _plain("TimeDrift", "-4")
    suite = '<Suite>HMAC-SHA256</Suite><ResponseFormat Length="6" Encoding="DECIMAL"/>'
    (record,) = _read(_file(_key(data, kind="totp", digits=suite)))
    assert isinstance(record.token, TOTPToken)
    assert (record.token.period_s, record.token.algorithm, record.token.digits) == (60, "SHA256", 6)
    assert (record.last, record.drift) == (NOW // 60, -4)


def test_pskc__file_of_the_library_is_read_in_its_many_keys() -> None:
    theirs = pskc.PSKC()
    for number in range(3):
        theirs.add_key(
            id=str(number), algorithm=f"{NAMESPACE}:totp", secret=KEY + bytes([number]), time_interval=30,
            response_length=6, response_encoding="DECIMAL", friendly_name=f"token {number}", key_userid=f"user{number}",
        )  # fmt: skip
    theirs.encryption.setup_pbkdf2("qwerty", iterations=1000)
    written = io.BytesIO()
    theirs.write(written)
    found = _read(written.getvalue(), passphrase="qwerty")
    assert [record.token.secret.reveal() for record in found] == [KEY + bytes([number]) for number in range(3)]
    assert [(record.user, record.token.name) for record in found] == [(f"user{n}", f"token {n}") for n in range(3)]


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    "text",
    [
        f'<!DOCTYPE x [<!ENTITY a0 "ha">{LAUGHS}]><x>&a11;</x>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
        '<!DOCTYPE x SYSTEM "http://192.0.2.1/x.dtd"><x/>',
        '<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///dev/zero">%a;]><x/>',
        "<!DOCTYPE x><x/>",
    ],
)
def test_pskc__document_type_is_refused_at_once(text: str) -> None:
    before_s = time.process_time()
    assert "a document type" in _problem(text)
    assert time.process_time() - before_s < 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<", "line 1: not XML"),
        ("<x>", "line 1: not XML"),
        ("<x/>", "not a PSKC file"),
        (_file(), "there is no key in the file"),
        (_file(_key(SECRET)).replace('Version="1.0" xmlns', 'Version="2.0" xmlns'), "not a PSKC file"),
        ("<x>" * 100_000, "elements inside one another"),
        ('<?xml version="1.0" encoding="UTF-7"?><x/>', "the file is not UTF-8"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><x/>', "the file is not UTF-8"),
        (_file(_key(SECRET * 2)), "line 4: Secret is there twice"),
        (_file(_key(SECRET, more="<UserId>a</UserId><UserId>b</UserId>")), "line 4: UserId is there twice"),
        (_file(_key(_plain("Secret", KEY_TEXT[:-1]))), "line 4: PlainValue is not Base64"),
        (_file(_key(_plain("Secret", "!" + KEY_TEXT))), "line 4: PlainValue is not Base64"),
        (_file(_key(_plain("Secret", ""))), "line 4: PlainValue is not Base64"),
        (_file(_key(_plain("Secret", KEY_TEXT + "<!-- -->" + KEY_TEXT))), "line 4: more than text in a value"),
        (_file(_key(_plain("Secret", KEY_TEXT + "<x/>" + KEY_TEXT))), "line 4: more than text in a value"),
        (_file(_key(SECRET + _plain("Counter", "0x1"))), "line 4: PlainValue is not a whole number"),
        (_file(_key(SECRET + _plain("Counter", "-1"))), "line 4: the counter is out of range"),
        (_file(_key(SECRET, kind="ocra")), "line 4: the algorithm is neither hotp nor totp"),
        (_file(_key(SECRET, digits='<ResponseFormat Length="6" Encoding="HEXADECIMAL"/>')), "not decimal"),
        (_file(_key(SECRET, digits='<ResponseFormat Length="5" Encoding="DECIMAL"/>')), "6 to 8 digits"),
        (_file(_key(SECRET, digits='<ResponseFormat Length="6" CheckDigits="true"/>')), "a check digit"),
        (_file(_key(SECRET, digits='<ResponseFormat Length="x"/>')), "not a PSKC file"),
        (_file(_key(SECRET, digits="<Suite>MD5</Suite>")), 'the algorithm "MD5" is none of'),
        (_file(_key(SECRET, more="<Policy><KeyUsage>Encrypt</KeyUsage></Policy>")), "not for codes"),
        (_file(_key(SECRET, more="<Policy><Moon>full</Moon></Policy>")), "a rule that is not known"),
        (_file(_key(SECRET, more='<Policy><PINPolicy PINUsageMode="Algorithmic"/></Policy>')), "goes into the comput"),
        (_file(_key(SECRET + _plain("TimeInterval", "0"), kind="totp")), "a period is 1 to 300"),
        (_file(_key(SECRET + _plain("Time", str(NOW)), kind="totp")), "far in the future"),
        (_file(_key(SECRET + _plain("TimeDrift", "9999999"), kind="totp")), "the drift is more than"),
    ],
)  # fmt: skip
def test_pskc__mistake_is_refused(text: str, problem: str) -> None:
    assert problem in _problem(text)


@needs_debians_python("pskc")
def test_pskc__is_read_by_debians_library() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pam_softtoken.interchange import reader as importer\n"
        "found = importer.read(sys.stdin.buffer.read(), path='-', now=0, passphrase='qwerty')\n"
        "print(found.found[0].token.secret.reveal().decode())"
    )
    command = ["/usr/bin/python3", "-I", "-c", script, str(TREE)]
    done = subprocess.run(command, input=_figure_7().encode(), capture_output=True, check=False)
    assert done.stdout.decode().strip() == KEY.decode(), done.stderr


@needs("pskctool")
def test_pskc__result_equals_that_of_pskctool() -> None:
    text = _file(_key(f"{SECRET}{_plain('Counter', '7')}"))
    command = ["pskctool", "--info", "/dev/stdin"]
    seen = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    (record,) = _read(text)
    assert isinstance(record.token, HOTPToken)
    assert f"Key Counter: {record.token.counter}" in seen
    assert f"Response Format Length: {record.token.digits}" in seen
    assert f"Key Secret (base64): {base64.b64encode(record.token.secret.reveal()).decode()}" in seen


def test_pskc__key_that_cannot_be_used_does_not_stop_the_others_and_names_its_user() -> None:
    short = _key(_plain("Secret", "MTIzNDU2Nzg="), more="<UserId>UID=bob,DC=example</UserId>")
    text = _file(_key(SECRET, more="<UserId>alice</UserId>"), short)
    harvest = reader.read(text.encode(), path="keys.xml", now=NOW, skipping=True)
    assert [each.user for each in harvest.found] == ["alice"]
    ((place, user, why, _hint),) = harvest.unusable
    assert (place.partition(" ")[0], user) == ("line", "bob")
    assert "64 bits" in why
    assert f"({user}): " in _problem(text)
