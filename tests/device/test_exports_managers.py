"""Read exports of password managers and of more apps: every token makes the same codes here, and the rest is named."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zipfile
from typing import Any

import pyotp
import pytest

from pam_softtoken.otp.token import TOTPToken
from pam_softtoken.program_errors import ImportFailed
from tests.device import manager_exports
from tests.device.export_maker import NOW, OTHER_PASSPHRASE, Person, assert_taken, read
from tests.device.manager_exports import DELETED_TEXT, MAKERS, STEAM_TEXT, WITH_TRASH
from tests.device.published_exports import ACCOUNTS

KEY = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.mark.parametrize("app", MAKERS)
def test_exports__every_token_makes_the_codes_that_pyotp_makes(app: str) -> None:
    harvest = read(MAKERS[app](), Person() if app == "ente" else None)
    for record, account in zip(harvest.found, ACCOUNTS, strict=True):
        assert_taken(record, account)
    told = [sentence.partition(": ")[2] for sentence in harvest.skipped]
    steam = STEAM_TEXT.replace("a Steam token", 'a token "steam"') if app == "ente" else STEAM_TEXT
    assert sorted(told) == sorted([*([DELETED_TEXT] if app in WITH_TRASH else []), steam])


@pytest.mark.parametrize(
    "document",
    [
        manager_exports.bitwarden(items=[{"name": "site", "login": {"totp": f" {KEY.lower()} "}}]),
        manager_exports.proton_pass(
            vaults={"a": {"items": [{"data": {"metadata": {"name": "site"}, "content": {"totpUri": KEY}}}]}}
        ),
    ],
)
def test_exports__key_alone_is_a_token_of_the_usual_kind(document: Any) -> None:
    (record,) = read(json.dumps(document)).found
    assert isinstance(record.token, TOTPToken)
    assert record.token.otp_at(NOW // 30) == pyotp.TOTP(KEY).at(NOW)
    assert record.token.name == "site"
    assert record.notes == ("the file has nothing but its key; 30 s, 6 digits and SHA1 are usual",)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"TOTP Seed": KEY, "TOTP Settings": "60;8"}, "60 8 SHA1"),
        ({"TOTP Seed": KEY}, "30 6 SHA1"),
        ({"otp": f"key={KEY}&step=60&size=8"}, "60 8 SHA1"),
        ({"TimeOtp-Secret-Base32": KEY, "TimeOtp-Length": "8", "TimeOtp-Algorithm": "HMAC-SHA-256"}, "30 8 SHA256"),
        ({"TimeOtp-Secret-Hex": base64.b32decode(KEY).hex(), "TimeOtp-Period": "60"}, "60 6 SHA1"),
        ({"TimeOtp-Secret-Base64": base64.b64encode(base64.b32decode(KEY)).decode()}, "30 6 SHA1"),
    ],
)
def test_exports__fields_of_keepass_and_its_plugins_are_read(fields: dict[str, str], kind: str) -> None:
    (record,) = read(manager_exports.keepassxc_xml({"Title": "site", "UserName": "alice", **fields})).found
    token = record.token
    assert isinstance(token, TOTPToken)
    assert f"{token.period_s} {token.digits} {token.algorithm}" == kind
    assert token.name == "site alice"
    assert token.secret.reveal() == base64.b32decode(KEY)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (f"key={KEY}&type=Steam", 'a token "steam" makes its codes in a way of its own'),
        (f"key={KEY}&encoding=Hex", "the key of the plugin KeeOtp is not in Base32"),
        (f"key={KEY}&key={KEY.lower()}", "key is given twice"),
        (f"key={KEY}&skew=1", 'the parameter "skew" is not known here'),
    ],
)
def test_exports__what_changes_the_codes_of_keeotp_is_refused(parameters: str, problem: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        read(manager_exports.keepassxc_xml({"Title": "site", "otp": parameters}))
    assert problem in caught.value.problems[0]


def test_exports__counter_of_keeotp_is_read() -> None:
    (record,) = read(manager_exports.keepassxc_xml({"otp": f"key={KEY}&type=Hotp&counter=7&encoding=Base32"})).found
    assert record.last == 6
    assert record.token.otp_at(7) == pyotp.HOTP(KEY).at(7)


def test_exports__empty_lines_of_csv_take_little_memory() -> None:
    lines = b"Group,Title,Username,TOTP\n" + b",,,\n" * (2 * 2**20 - 10)
    tracemalloc.start()
    try:
        with pytest.raises(ImportFailed, match="more than 10000 lines"):
            read(lines)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_exports__counter_of_keepass_is_read() -> None:
    fields = {"Title": "site", "HmacOtp-Secret-Base32": KEY, "HmacOtp-Counter": "7"}
    (record,) = read(manager_exports.keepassxc_xml(fields)).found
    assert record.last == 6
    assert record.token.otp_at(7) == pyotp.HOTP(KEY).at(7)


def test_exports__key_uris_of_2fauth_are_read() -> None:
    document = manager_exports.twofauth(data=[manager_exports.uri_of(account) for account in ACCOUNTS])
    for record, account in zip(read(json.dumps(document)).found, ACCOUNTS, strict=True):
        assert_taken(record, account)


def test_exports__wrong_passphrase_of_ente_is_an_error() -> None:
    person = Person(OTHER_PASSPHRASE)
    with pytest.raises(ImportFailed, match="wrong passphrase, or a damaged file"):
        read(json.dumps(manager_exports.ente()), person)
    assert person.asked == 1


ENTE = manager_exports.ente()
XML = manager_exports.keepassxc_xml()
CSV = manager_exports.bitwarden_csv().encode()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (manager_exports.bitwarden(encrypted=True), "the export of Bitwarden is encrypted"),
        ({"encrypted": True, "passwordProtected": True, "encKeyValidation_DO_NOT_EDIT": "x", "data": "y"}, "encrypted"),
        ({"encrypted": "no", "items": []}, "JSON of no app"),
        (manager_exports.bitwarden(items={}), '"items" is not a JSON array'),
        (manager_exports.proton_pass(encrypted=True), "the export of Proton Pass is encrypted"),
        (manager_exports.proton_pass(vaults={"a": []}), "a vault is not a JSON object"),
        ({"version": 1, "entries": [{"content": {}}]}, "JSON of no app"),
        ({"version": 1, "entries": [{"content": {"uri": "otpauth://totp/x?secret=AAAA"}}]}, "JSON of no app"),
        (manager_exports.stratum(Authenticators=None), '"Authenticators" is missing'),
        (b"AUTHENTICATORPRO" + bytes(80), "the backup of Stratum is encrypted"),
        (b"AuthenticatorPro" + bytes(80), "the backup of Stratum is encrypted"),
        (manager_exports.twofauth(data={}), '"data" is not a JSON array'),
        ({**ENTE, "version": 2}, "only version 1"),
        ({**ENTE, "kdfParams": {**ENTE["kdfParams"], "memLimit": 2**30 + 1}}, "the costs of Argon2id"),
        ({**ENTE, "kdfParams": {**ENTE["kdfParams"], "opsLimit": 17}}, "the costs of Argon2id"),
        ({**ENTE, "kdfParams": {**ENTE["kdfParams"], "salt": "AAAA"}}, "the salt or the nonce has another length"),
        ({**ENTE, "encryptionNonce": "AAAA"}, "the salt or the nonce has another length"),
        ({**ENTE, "encryptedData": "AAAA"}, "the export is cut off"),
        (manager_exports.onepassword(member="other"), "a ZIP file of no app"),
        (manager_exports.onepassword(b"{"), "line 1: not JSON"),
        (manager_exports.onepassword(b" " * (8 * 2**20 + 1), form=zipfile.ZIP_DEFLATED), "is larger than"),
        (manager_exports.onepassword()[:200], "the ZIP file is damaged"),
        (manager_exports.onepassword(form=zipfile.ZIP_BZIP2), "the ZIP file is compressed in an unusual way"),
        (manager_exports.onepassword(form=zipfile.ZIP_LZMA), "the ZIP file is compressed in an unusual way"),
        (b"<KeePassFile><Root>", "line 1: not XML"),
        (b"<Other><Root/></Other>", "XML of no app"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><KeePassFile><Root>&a;</Root></KeePassFile>', "a document type"),
        (b"<KeePassFile>" + b"<a>" * 70, "nested more than 64 deep"),
        (b'<?xml version="1.0" encoding="no-such"?><KeePassFile/>', "XML"),
        (CSV.replace(b'"Boeing"', b'"Boe'), "not CSV"),
        (CSV + b'"too","short"\r\n', "2 columns, and the first line has 11"),
        (b"name,url,username,password\nx,y,z,otpauth://totp/x\n", "no format that is known here"),
    ],
)
def test_exports__unsupported_format_is_refused_by_name_before_the_passphrase_question(data: Any, problem: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        read(data if isinstance(data, bytes) else json.dumps(data))
    assert problem in caught.value.problems[0]
    assert caught.value.hint


@pytest.mark.parametrize("app", MAKERS)
def test_exports__one_wrong_entry_does_not_stop_the_others(app: str) -> None:
    secret = ACCOUNTS[1].secret.encode()
    whole = MAKERS[app]()
    if app == "ente":
        lines = "\n".join([manager_exports.uri_of(each) for each in ACCOUNTS]).replace(secret.decode(), "0189")
        whole = json.dumps(manager_exports.ente(lines)).encode()
    elif app == "1password":
        document = {"accounts": [{"vaults": [{"items": [_item("0189"), _item(KEY)]}]}]}
        whole = manager_exports.onepassword(json.dumps(document).encode())
    harvest = read(whole.replace(secret, b"0189"), Person())
    assert len(harvest.found) == (1 if app == "1password" else len(ACCOUNTS) - 1)
    assert [told for told in harvest.skipped if "0, 1, 8 or 9" in told]
    assert not [told for told in harvest.skipped if secret.decode() in told]


def _item(totp: str) -> dict[str, Any]:
    return {"overview": {"title": "x"}, "details": {"sections": [{"fields": [{"value": {"totp": totp}}]}]}}
