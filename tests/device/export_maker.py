"""Write and read exports in the format that each app documents, for tests that change them.

The `cryptography` package and the standard library encrypt them, never the tested code.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pyotp
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pam_softtoken.interchange.apps import exports
from pam_softtoken.interchange.apps.exports import Harvest
from pam_softtoken.interchange.record import Imported
from pam_softtoken.otp.token import HOTPToken, TOTPToken
from tests.device.published_exports import ACCOUNTS, STEAM_SECRET, Account

NOW = 1_700_000_000
PASSPHRASE = "löwen zahn"
OTHER_PASSPHRASE = "lowen zahn"
SALT, NONCE = bytes(range(32)), bytes(range(100, 112))


class Person:
    """A stand-in for a user who is asked for a passphrase. It counts the questions."""

    def __init__(self, passphrase: str = PASSPHRASE) -> None:
        self.asked = 0
        self._passphrase = passphrase

    def __call__(self) -> str:
        self.asked += 1
        return self._passphrase


def read(data: bytes | str, person: Person | None = None) -> Harvest:
    """Read an export. If no person is given, no question is allowed."""
    whole = data.encode() if isinstance(data, str) else data

    def nobody() -> str:
        raise AssertionError("asked for a passphrase")

    return exports.read(whole, path="export", now=NOW, ask_passphrase=person or nobody)


def assert_taken(record: Imported, account: Account) -> None:
    """Check that a token makes the same codes as pyotp for the account."""
    token = record.token
    assert token.name == f"{account.issuer} {account.name}"
    digest = getattr(hashlib, account.algorithm.lower())
    if account.kind == "hotp":
        assert isinstance(token, HOTPToken)
        assert (token.counter, record.last) == (account.counting, account.counting - 1 if account.counting else None)
        theirs = pyotp.HOTP(account.secret, digits=account.digits, digest=digest)
        assert [token.otp_at(place) for place in (0, account.counting)] == [
            theirs.at(place) for place in (0, account.counting)
        ]
    else:
        assert isinstance(token, TOTPToken)
        assert token.period_s == account.counting
        clock = pyotp.TOTP(account.secret, digits=account.digits, digest=digest, interval=account.counting)
        assert [token.otp_at(moment // account.counting) for moment in (59, NOW)] == [clock.at(59), clock.at(NOW)]


def count_of(account: Account) -> dict[str, int]:
    """Return the field that only one type has, under the name that all apps use."""
    return {"counter" if account.kind == "hotp" else "period": account.counting}


def aegis(**changes: Any) -> dict[str, Any]:
    """Return an unencrypted vault of Aegis."""
    entries = [
        {
            "type": account.kind,
            "uuid": f"00000000-0000-4000-8000-{place:012}",
            "name": account.name,
            "issuer": account.issuer,
            "icon": None,
            "info": {
                "secret": account.secret,
                "algo": account.algorithm,
                "digits": account.digits,
                **count_of(account),
            },
        }
        for place, account in enumerate(ACCOUNTS)
    ]
    info = {"secret": STEAM_SECRET, "algo": "SHA1", "digits": 5, "period": 30}
    steam = {"type": "steam", "name": "Sophia", "issuer": "Boeing", "info": info}
    content = {"version": 1, "entries": [*entries, steam]}
    return {"version": 1, "header": {"slots": None, "params": None}, "db": content, **changes}


def seal(key: bytes, text: bytes) -> tuple[bytes, bytes]:
    """Return ciphertext and tag."""
    sealed = AESGCM(key).encrypt(NONCE, text, None)
    return sealed[:-16], sealed[-16:]


def aegis_slot(passphrase: str, master_key: bytes, *, n: int = 16, r: int = 8, p: int = 1) -> dict[str, Any]:
    """Return a slot of a vault, with a small cost for many runs."""
    key = hashlib.scrypt(passphrase.encode(), salt=SALT, n=n, r=r, p=p, dklen=32)
    wrapped, tag = seal(key, master_key)
    parameters = {"nonce": NONCE.hex(), "tag": tag.hex()}
    return {"type": 1, "key": wrapped.hex(), "key_params": parameters, "n": n, "r": r, "p": p, "salt": SALT.hex()}


def aegis_encrypted(*slots: dict[str, Any], content: bytes | None = None) -> dict[str, Any]:
    """Return an encrypted vault, whose master key is 32 times "m"."""
    text = json.dumps(aegis()["db"]).encode() if content is None else content
    sealed, tag = seal(b"m" * 32, text)
    header = {
        "slots": list(slots) or [aegis_slot(PASSPHRASE, b"m" * 32)],
        "params": {"nonce": NONCE.hex(), "tag": tag.hex()},
    }
    return {"version": 1, "header": header, "db": base64.b64encode(sealed).decode()}


def andotp() -> list[dict[str, Any]]:
    """Return an unencrypted backup of andOTP."""
    entries = [
        {
            "secret": account.secret + "=" * (-len(account.secret) % 8),
            "issuer": account.issuer,
            "label": account.name,
            "digits": account.digits,
            "type": account.kind.upper(),
            "algorithm": account.algorithm,
            "thumbnail": "Default",
            "last_used": 1608146844162,
            "used_frequency": 0,
            **count_of(account),
            "tags": [],
        }
        for account in ACCOUNTS
    ]
    steam = {"secret": STEAM_SECRET + "======", "issuer": "Boeing", "label": "Sophia", "digits": 5, "type": "STEAM"}
    return [*entries, steam]


def andotp_encrypted(*, iterations: int = 1000, text: bytes | None = None) -> bytes:
    """Return an encrypted backup of andOTP."""
    key = hashlib.pbkdf2_hmac("sha1", PASSPHRASE.encode(), SALT[:12], iterations, 32)
    sealed, tag = seal(key, json.dumps(andotp()).encode() if text is None else text)
    return iterations.to_bytes(4, "big") + SALT[:12] + NONCE + sealed + tag


def twofas(**changes: Any) -> dict[str, Any]:
    """Return an unencrypted backup of 2FAS."""
    services = [
        {
            "name": account.issuer,
            "secret": account.secret,
            "updatedAt": 1702934567518,
            "otp": {
                "label": account.name,
                "account": account.name,
                "issuer": account.issuer,
                "digits": account.digits,
                "algorithm": account.algorithm,
                **count_of(account),
                "tokenType": account.kind.upper(),
                "source": "Link",
            },
            "order": {"position": place},
        }
        for place, account in enumerate(ACCOUNTS)
    ]
    otp = {"account": "Sophia", "issuer": "Boeing", "digits": 5, "period": 30, "tokenType": "STEAM"}
    steam = {"name": "Boeing", "secret": STEAM_SECRET, "otp": otp}
    return {"services": [*services, steam], "groups": [], "schemaVersion": 4, "appOrigin": "android", **changes}


def twofas_encrypted(*, text: bytes | None = None, salt: bytes = SALT * 8) -> dict[str, Any]:
    """Return an encrypted backup of 2FAS."""
    key = hashlib.pbkdf2_hmac("sha256", PASSPHRASE.encode(), salt, 10_000, 32)
    sealed = b"".join(seal(key, json.dumps(twofas()["services"]).encode() if text is None else text))
    parts = [base64.b64encode(part).decode() for part in (sealed, salt, NONCE)]
    return twofas(services=[], servicesEncrypted=":".join(parts), reference="not looked at")


def freeotp_plus(**changes: Any) -> dict[str, Any]:
    """Return an export of FreeOTP+."""
    tokens = [
        {
            "algo": account.algorithm,
            "counter": account.counting if account.kind == "hotp" else 0,
            "digits": account.digits,
            "issuerExt": account.issuer,
            "issuerInt": account.issuer,
            "label": account.name,
            "period": account.counting if account.kind == "totp" else 30,
            "secret": [byte - 256 if byte > 127 else byte for byte in _bytes_of(account.secret)],
            "type": account.kind.upper(),
        }
        for account in ACCOUNTS
    ]
    steam = {"issuerExt": "Steam", "label": "Sophia", "digits": 5, "secret": [1] * 20, "type": "TOTP"}
    return {"tokenOrder": ["WWE:Mason"], "tokens": [*tokens, steam], **changes}


def _bytes_of(secret: str) -> bytes:
    return base64.b32decode(secret + "=" * (-len(secret) % 8))
