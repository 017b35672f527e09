"""Read exports of other apps: their tokens make the same codes here, and each rejected one is named."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from pam_softtoken.program_errors import ImportFailed
from tests.device import export_maker, published_exports
from tests.device.export_maker import OTHER_PASSPHRASE, PASSPHRASE, Person, assert_taken, read
from tests.device.published_exports import ACCOUNTS

STEAM = 'entry 7 "Boeing Sophia": a Steam token makes its codes in a way of its own, which is neither HOTP nor TOTP'
PLAIN: dict[str, Any] = {
    "aegis": export_maker.aegis(),
    "andotp": export_maker.andotp(),
    "twofas": export_maker.twofas(),
    "freeotp_plus": export_maker.freeotp_plus(),
}
ENCRYPTED = {
    "aegis": json.dumps(export_maker.aegis_encrypted()).encode(),
    "andotp": export_maker.andotp_encrypted(),
    "twofas": json.dumps(export_maker.twofas_encrypted()).encode(),
}


def _entries(app: str, document: Any) -> list[dict[str, Any]]:
    """Return the accounts of an unencrypted document, so that they can be changed."""
    if app == "aegis":
        return list(document["db"]["entries"])
    return list(document if app == "andotp" else document["services" if app == "twofas" else "tokens"])


@pytest.mark.parametrize("app", PLAIN)
def test_exports__in_clear_make_the_same_codes(app: str) -> None:
    harvest = read(json.dumps(PLAIN[app]))
    assert len(harvest.found) == len(ACCOUNTS)
    for place, (record, account) in enumerate(zip(harvest.found, ACCOUNTS, strict=True), 1):
        assert_taken(record, account)
        assert record.place == f"entry {place}"
    steam = STEAM.replace("Boeing", "Steam") if app == "freeotp_plus" else STEAM
    assert harvest.skipped == (steam,)


@pytest.mark.parametrize("app", ENCRYPTED)
def test_exports__encrypted_make_the_same_codes(app: str) -> None:
    person = Person()
    harvest = read(ENCRYPTED[app], person)
    assert person.asked == 1
    for record, account in zip(harvest.found, ACCOUNTS, strict=True):
        assert_taken(record, account)
    assert harvest.skipped == (STEAM,)


def test_exports__the_vault_that_aegis_publishes_is_read() -> None:
    harvest = read(published_exports.AEGIS, Person(published_exports.PASSPHRASE))
    for record, account in zip(harvest.found, ACCOUNTS, strict=True):
        assert_taken(record, account)
    assert harvest.skipped == (STEAM,)


def test_exports__the_backup_of_2fas_that_aegis_publishes_is_read() -> None:
    harvest = read(published_exports.TWOFAS, Person(published_exports.PASSPHRASE))
    # As that version of the app took them: every account for TOTP, of 30 seconds where the backup has no period.
    expected = [
        account if account.kind == "totp" else account._replace(kind="totp", counting=30)
        for account in ACCOUNTS
        if account.issuer in ("Deno", "Airbnb", "Issuu", "WWE")
    ]
    for record, account in zip(harvest.found, expected, strict=True):
        assert_taken(record, account)
    assert harvest.skipped == ()


@pytest.mark.parametrize("app", ENCRYPTED)
@pytest.mark.parametrize("passphrase", [OTHER_PASSPHRASE, "", "\udcff"])
def test_exports__a_wrong_passphrase_is_one_error(app: str, passphrase: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        read(ENCRYPTED[app], Person(passphrase))
    assert caught.value.problems == ("wrong passphrase, or a damaged file",)
    assert "the passphrase that was set in the app" in caught.value.hint


def test_exports__any_passphrase_of_a_vault_opens_it() -> None:
    slots = [export_maker.aegis_slot(text, b"m" * 32) for text in ("first", "second", "third")]
    finger = {"type": 2, "uuid": "x", "key": "00", "key_params": {}}
    data = json.dumps(export_maker.aegis_encrypted(finger, *slots))
    for passphrase in ("first", "second", "third"):
        assert len(read(data, Person(passphrase)).found) == len(ACCOUNTS)
    with pytest.raises(ImportFailed, match="wrong passphrase, or a damaged file"):
        read(data, Person("fourth"))


def test_exports__a_vault_that_only_a_finger_opens_says_so() -> None:
    with pytest.raises(ImportFailed, match="no password opens the vault") as caught:
        read(json.dumps(export_maker.aegis_encrypted({"type": 2})))
    assert "export it again" in caught.value.hint


@pytest.mark.parametrize("app", ENCRYPTED)
def test_exports__error_without_the_library_names_the_package(app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert len(read(json.dumps(PLAIN[app])).found) == len(ACCOUNTS)
    with pytest.raises(ImportFailed, match="needs the cryptography library") as caught:
        read(ENCRYPTED[app], Person())
    assert caught.value.hint == "apt install python3-cryptography"


def test_aegis__unknown_fields_and_a_newer_version_are_ignored() -> None:
    content = {**export_maker.aegis()["db"], "version": 3, "groups": [{"uuid": "x", "name": "Work"}], "weight": 0.5}
    content["entries"] = [{**entry, "note": "a note", "favorite": True} for entry in content["entries"]]
    assert len(read(json.dumps(export_maker.aegis(db=content))).found) == len(ACCOUNTS)


def test_andotp__a_backup_of_an_old_version_has_its_defaults() -> None:
    # The first versions wrote a secret, a label and a period.
    (record,) = read(json.dumps([{"secret": ACCOUNTS[0].secret, "label": "Deno:Mason", "period": 30}])).found
    assert_taken(record, ACCOUNTS[0])


def test_twofas__a_backup_of_the_first_schema_has_its_defaults() -> None:
    otp = {"account": "Mason", "issuer": "Deno", "label": "Deno:Mason"}
    service = {"name": "Deno", "secret": ACCOUNTS[0].secret, "type": "Unknown", "otp": otp}
    (record,) = read(json.dumps({"schemaVersion": 1, "services": [service]})).found
    assert_taken(record, ACCOUNTS[0])


def test_twofas__service_added_by_hand_has_its_name() -> None:
    service = {"name": "example.com", "secret": ACCOUNTS[0].secret.lower(), "otp": {"label": "", "account": ""}}
    (record,) = read(json.dumps({"schemaVersion": 4, "services": [service]})).found
    assert record.token.name == "example.com"


def test_freeotp_plus__names_that_the_person_gave_and_a_counter_before_the_first() -> None:
    token = {**export_maker.freeotp_plus()["tokens"][3], "counter": -1, "issuerAlt": "Mine", "labelAlt": "spare"}
    (record,) = read(json.dumps({"tokens": [token], "tokenOrder": []})).found
    assert_taken(record, ACCOUNTS[3]._replace(issuer="Mine", name="spare", counting=0))


@pytest.mark.parametrize("app", PLAIN)
def test_exports__a_key_of_80_bits_is_taken_and_an_empty_one_is_not(app: str) -> None:
    # The codes: oathtool --totp -b -N @1111111109 JBSWY3DPEHPK3PXP
    document = json.loads(json.dumps(PLAIN[app]))
    short, empty = _entries(app, document)[:2]
    place = {"aegis": "info"}.get(app)
    short_fields, empty_fields = (short[place], empty[place]) if place else (short, empty)
    short_fields["secret"] = [*b"Hello!", -34, -83, -66, -17] if app == "freeotp_plus" else "JBSWY3DPEHPK3PXP"
    empty_fields["secret"] = [] if app == "freeotp_plus" else ""
    harvest = read(json.dumps(document))
    assert harvest.found[0].token.otp_at(1111111109 // 30) == "071271"
    assert harvest.skipped[0] == 'entry 2 "SPDX James": the key is empty'


@pytest.mark.parametrize("app", PLAIN)
def test_exports__two_of_the_same_are_both_found(app: str) -> None:
    document = json.loads(json.dumps(PLAIN[app]))
    target = document if app == "andotp" else document["db"]["entries"] if app == "aegis" else None
    target = target if target is not None else document["services" if app == "twofas" else "tokens"]
    target[:] = [target[0], target[0]]
    first, second = read(json.dumps(document)).found
    assert first.token.fingerprint() == second.token.fingerprint()
    assert (first.place, second.place) == ("entry 1", "entry 2")


SECRET = ACCOUNTS[0].secret
BAD_ENTRIES = [
    (7, "it is not a JSON object"),
    (None, "it is not a JSON object"),
    ({}, '"type" is missing'),
    ({"type": 1}, '"type" is not a text'),
    ({"type": "totp"}, '"info" is missing'),
    ({"type": "totp", "info": []}, '"info" is not a JSON object'),
    ({"type": "totp", "info": {"secret": 5}}, '"secret" is not a text'),
    ({"type": "motp"}, "a mOTP token makes its codes in a way of its own"),
    ({"type": "yandex"}, "a Yandex token makes its codes in a way of its own"),
    ({"type": SECRET}, "its type is neither HOTP nor TOTP"),
    ({"name": 7, "type": "totp"}, '"name" is not a text'),
    ({"info": {"secret": SECRET[:-1] + "1"}}, "the key has a 0, 1, 8 or 9"),
    ({"info": {"secret": SECRET + "\ud800"}}, "the key is not Base32"),
    ({"info": {"algo": "MD5"}}, 'the algorithm "MD5" is none of SHA1, SHA256 and SHA512'),
    ({"info": {"algo": "\u017fha1"}}, "the algorithm is none of SHA1"),
    ({"info": {"digits": 5}}, "a code has 6 to 8 digits"),
    ({"info": {"digits": 6.0}}, '"digits" is not a number of the right size'),
    ({"info": {"digits": True}}, '"digits" is not a number of the right size'),
    ({"info": {"digits": "6"}}, '"digits" is not a number of the right size'),
    ({"info": {"period": 0}}, "a period is 1 to 300 seconds"),
    ({"info": {"period": -30}}, '"period" is not a number of the right size'),
    ({"type": "hotp"}, "the counter is missing, which a token that counts must have"),
    ({"type": "hotp", "info": {"counter": -1}}, '"counter" is not a number of the right size'),
    ({"type": "hotp", "info": {"counter": 2**62}}, "the counter is out of range"),
    ({"type": "hotp", "info": {"counter": 2**63}}, '"counter" is not a number of the right size'),
]


@pytest.mark.parametrize(("entry", "problem"), BAD_ENTRIES)
def test_exports__unusable_entry_is_reported_and_the_others_are_read(entry: Any, problem: str) -> None:
    good = export_maker.aegis()["db"]["entries"][0]
    if isinstance(entry, dict) and ("info" in entry or entry == {"type": "hotp"}) and entry.get("type") != "totp":
        known = entry.get("info", {})
        entry = {**good, **entry, "info": {**good["info"], **known} if isinstance(known, dict) else known}
    content = {"version": 1, "entries": [entry, good]}
    harvest = read(json.dumps(export_maker.aegis(db=content)))
    (skipped,) = harvest.skipped
    assert problem in skipped
    assert skipped.startswith("entry 1")
    assert SECRET[:12] not in skipped
    (record,) = harvest.found
    assert_taken(record, ACCOUNTS[0])


def test_exports__an_array_of_bytes_has_nothing_else_in_it() -> None:
    for wrong in (128, -129, True, "1", 1.0, None):
        token = {**export_maker.freeotp_plus()["tokens"][0], "secret": [1, 2, wrong]}
        with pytest.raises(ImportFailed, match='"secret" is not an array of signed bytes'):
            read(json.dumps(export_maker.freeotp_plus(tokens=[token])))


def test_exports__a_name_cannot_write_to_the_terminal() -> None:
    content = {"version": 1, "entries": [{"type": "steam", "name": "a\x1b]52;c;x\x07\u202e", "issuer": "b\n" * 99}]}
    with pytest.raises(ImportFailed) as caught:
        read(json.dumps(export_maker.aegis(db=content)))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 250


def test_exports__nothing_that_can_be_taken_is_an_error_with_every_reason() -> None:
    entries = [{**entry, "type": "STEAM"} for entry in export_maker.andotp()]
    with pytest.raises(ImportFailed) as caught:
        read(json.dumps(entries))
    assert len(caught.value.problems) == len(entries)
    assert caught.value.problems[0].startswith('entry 1 "Deno Mason": a Steam token')


SLOT = export_maker.aegis_slot(PASSPHRASE, b"m" * 32)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "JSON of no app"),
        ({"version": 1}, "JSON of no app"),
        ({"services": []}, "JSON of no app"),
        ({"tokens": []}, "JSON of no app"),
        ([], "JSON of no app"),
        ([{"name": "x", "key": "y"}], "JSON of no app"),
        ([{"secret": "", "label": ""}, *[[]] * 10_000], "the file has more than 10000 entries"),
        (export_maker.aegis(version=2), "only version 1"),
        (export_maker.aegis(version=True), '"version" is not a number'),
        (export_maker.aegis(version=None), '"version" is missing'),
        (export_maker.aegis(header=[]), '"header" is not a JSON object'),
        (export_maker.aegis(db="text"), '"db" is not a JSON object'),
        (export_maker.aegis(db={"version": 4, "entries": []}), "only versions 1 to 3"),
        (export_maker.aegis(db={"version": 1, "entries": {}}), '"entries" is not a JSON array'),
        (export_maker.aegis(db={"version": 1, "entries": []}), "there is no token in the file"),
        (export_maker.aegis_encrypted({**SLOT, "n": 2**40}), "the costs of scrypt"),
        (export_maker.aegis_encrypted({**SLOT, "n": 2**18 * 2}), "the costs of scrypt"),
        (export_maker.aegis_encrypted({**SLOT, "n": 15}), "the costs of scrypt"),
        (export_maker.aegis_encrypted({**SLOT, "n": 0}), "the costs of scrypt"),
        (export_maker.aegis_encrypted({**SLOT, "n": 1}), "the costs of scrypt"),
        (export_maker.aegis_encrypted({**SLOT, "r": 0}), "the costs of scrypt"),
        (export_maker.aegis_encrypted({**SLOT, "p": 2**30}), "the costs of scrypt"),
        (export_maker.aegis_encrypted({**SLOT, "salt": ""}), '"salt" is not hexadecimal of the right length'),
        (export_maker.aegis_encrypted({**SLOT, "salt": "0" * 2**20}), '"salt" is not hexadecimal of the right length'),
        (export_maker.aegis_encrypted({**SLOT, "key": SLOT["key"][2:]}), '"key" is not hexadecimal'),
        (export_maker.aegis_encrypted({**SLOT, "key": " " + SLOT["key"][1:]}), '"key" is not hexadecimal'),
        (export_maker.aegis_encrypted({**SLOT, "key_params": {"nonce": "00"}}), '"tag" is missing'),
        (export_maker.aegis_encrypted(*[SLOT] * 9), "more than 8 passwords"),
        ({**export_maker.aegis_encrypted(), "db": "ab=="}, '"db" is not Base64 of whole bytes'),
        ({**export_maker.aegis_encrypted(), "db": "a b="}, '"db" is not Base64'),
        ({**export_maker.aegis_encrypted(), "db": "\u00e4"}, '"db" is not Base64'),
        ({**export_maker.aegis_encrypted(), "db": {}}, '"db" is not a text'),
        (export_maker.twofas(schemaVersion=0), "only schema versions 1 to 4"),
        (export_maker.twofas(schemaVersion=5), "only schema versions 1 to 4"),
        (export_maker.twofas(schemaVersion="4"), '"schemaVersion" is not a number'),
        (export_maker.twofas(services={}), '"services" is not a JSON array'),
        (export_maker.twofas(services=None), "there is no token in the file"),
        (export_maker.twofas(servicesEncrypted="a:b:c"), "accounts in clear and encrypted ones"),
        (export_maker.twofas(services=[], servicesEncrypted="a:b"), "does not have three parts"),
        (export_maker.twofas(services=[], servicesEncrypted="a:b:c"), '"servicesEncrypted" is not Base64'),
        (export_maker.twofas(services=[], servicesEncrypted="AAAA:AAAA:AAAA"), "a salt or a nonce of another length"),
        (export_maker.twofas(services=[], servicesEncrypted="AAAA::" + "A" * 16), "a salt or a nonce of another"),
        (export_maker.twofas(services=[], servicesEncrypted=7), '"servicesEncrypted" is not a text'),
        (export_maker.freeotp_plus(tokens={}), '"tokens" is not a JSON array'),
        (export_maker.freeotp_plus(tokens=[]), "there is no token in the file"),
    ],
)
def test_exports__malformed_file_is_refused_before_the_passphrase_question(document: Any, problem: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        read(json.dumps(document))
    (told,) = caught.value.problems
    assert problem in told
    assert caught.value.hint
    assert SECRET[:12] not in told


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"7", b"[" * 100_000, b'{"version": 1}'])
def test_exports__decrypted_content_is_parsed_as_strictly(text: bytes) -> None:
    for data in (
        json.dumps(export_maker.aegis_encrypted(content=text)).encode(),
        export_maker.andotp_encrypted(text=text),
        json.dumps(export_maker.twofas_encrypted(text=text)).encode(),
    ):
        with pytest.raises(ImportFailed):
            read(data, Person())
