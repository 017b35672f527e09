"""Read PSKC files (RFC 6030): keys of many tokens as XML, in clear or encrypted, as makers of tokens deliver them. Does
no I/O. The library `pskc` reads and decrypts them. It is lenient: Base64 with stray characters becomes another key, the
first of two secrets counts, and data without a MAC is decrypted all the same. So `xml_survey` checks the text first.
"""

from __future__ import annotations

import io
import re
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pam_softtoken import platform_facts
from pam_softtoken.interchange.record import (
    MAX_DRIFT,
    Imported,
    Mistakes,
    algorithm_from,
    hotp_token,
    last_before,
    name_from,
    totp_token,
    used_step,
)
from pam_softtoken.interchange.xml_survey import Survey, survey
from pam_softtoken.program_errors import Unreadable

if TYPE_CHECKING:
    from pskc import PSKC
    from pskc.key import Key

_MAX_ITERATIONS = 10**7
"""The limit for PBKDF2: some seconds. The file could ask for hours."""
_MAX_DERIVED_BYTES = 64
_LOGIN = r"([A-Za-z0-9_][A-Za-z0-9_.-]*)"
_USER_ID = re.compile(rf"[Uu][Ii][Dd]={_LOGIN}(?:,.*)?\Z|{_LOGIN}\Z", re.DOTALL)  # a distinguished name, or not
_OURS = ("hotp", "totp")
HINT = "the file must follow RFC 6030; ask its maker"
_CLOSED_HINT = "give its passphrase, or its pre-shared key in hexadecimal"


def read(data: bytes, *, passphrase: str | None, mistakes: Mistakes, now: int) -> list[Imported]:
    """Read the file.

    Args:
        data: the file's bytes.
        passphrase: opens the file. With a pre-shared key, it is that key in hexadecimal. None for a file in clear.
        mistakes: records what is wrong.
        now: Unix seconds.
    """
    found: list[Imported] = []
    with mistakes.at(""):
        seen = survey(data)
        container = _open(data, seen, passphrase)
        pins = {key.policy.pin_key_id for key in container.keys}
        for count, key in enumerate(container.keys, 1):
            known = len(seen.lines) == len(container.keys)
            place = f"line {seen.lines[count - 1]}" if known else f"key {count}"
            if key.id in pins and _algorithm(key) not in _OURS:
                continue  # a PIN; its token refers to it
            with mistakes.at(place, user=_login(key), is_certain=True):
                found.append(_token(key, place=place, now=now))
        if not container.keys:
            raise Unreadable("there is no key in the file")
    return found


def _open(data: bytes, seen: Survey, passphrase: str | None) -> PSKC:
    try:
        from pskc import PSKC  # noqa: PLC0415 - a host without it can import everything else
    except ImportError:
        raise Unreadable(
            "reading PSKC files needs the pskc library", hint=platform_facts.install("python-pskc")
        ) from None
    with _library("the file is not a PSKC file that is known here"):
        container = PSKC(io.BytesIO(data))
    if seen.encrypted:
        if passphrase is None:
            raise Unreadable("the file is encrypted", hint=_CLOSED_HINT)
        _unlock(container, passphrase)
    return container


def _unlock(container: PSKC, passphrase: str) -> None:
    derivation = container.encryption.derivation
    if derivation.algorithm is None:
        try:
            container.encryption.key = bytes.fromhex(passphrase)
        except ValueError:
            raise Unreadable("the pre-shared key is not hexadecimal", hint=_CLOSED_HINT) from None
        return
    iterations, length = derivation.pbkdf2_iterations or 0, derivation.pbkdf2_key_length or 0
    if not 0 < iterations <= _MAX_ITERATIONS or not 0 < length <= _MAX_DERIVED_BYTES:
        raise Unreadable(f"PBKDF2 takes 1 to {_MAX_ITERATIONS} iterations for 1 to {_MAX_DERIVED_BYTES} bytes here")
    with _library("the key cannot be derived from the passphrase"):
        container.encryption.derive_key(passphrase)


class _library:  # noqa: N801 - reads as a word in `with`
    """A `with` block that records any exception of the library about a file as one mistake, and hides its warnings."""

    def __init__(self, otherwise: str, *, hint: str = "") -> None:
        self._otherwise = otherwise
        self._hint = hint
        self._quiet = warnings.catch_warnings()

    def __enter__(self) -> None:
        self._quiet.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, kind: type[BaseException] | None, *_about: object) -> None:
        self._quiet.__exit__(None, None, None)
        if kind is None or issubclass(kind, Unreadable):
            return
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - the library needs it, too
        from pskc.exceptions import PSKCError  # noqa: PLC0415

        known = (PSKCError, UnsupportedAlgorithm, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
        if issubclass(kind, known):
            raise Unreadable(self._otherwise, hint=self._hint) from None


def _algorithm(key: Key) -> str:
    return (key.algorithm or "").replace("#", ":").rpartition(":")[2].lower()


def _token(key: Key, *, place: str, now: int) -> Imported:
    algorithm = _algorithm(key)
    if algorithm not in _OURS:
        raise Unreadable("the algorithm is neither hotp nor totp")
    with _library("the passphrase does not open the key, or it is damaged", hint=_CLOSED_HINT):
        secret, counter, drift = key.secret, key.counter or 0, key.time_drift or 0
        step, period_s = key.time_offset or 0, 30 if key.time_interval is None else key.time_interval
    if secret is None:
        raise Unreadable("the key itself is not in the file")
    _require_usable(key, now)
    notes = _notes(key, algorithm)
    digits = 6 if key.response_length is None else key.response_length
    name = name_from(key.friendly_name or key.issuer or "", key.serial or "" if not key.friendly_name else "")
    hash_name = algorithm_from(key.algorithm_suite or "SHA1")
    pin, pin_notes = _pin(key)
    login = _login(key)
    if key.userid and not login:
        pin_notes += ("the user's name in the file is not a login name",)
    if algorithm == "hotp":
        token = hotp_token(name, secret, now=now, counter=counter, algorithm=hash_name, digits=digits)
        return Imported(token, last=last_before(counter), user=login, pin=pin, place=place, notes=notes + pin_notes)
    if abs(drift) > MAX_DRIFT:
        raise Unreadable(f"the drift is more than {MAX_DRIFT} steps")
    token = totp_token(name, secret, now=now, period_s=period_s, algorithm=hash_name, digits=digits)
    last = used_step(step, now=now, period_s=period_s) if step > 0 else None
    return Imported(token, last=last, drift=drift, user=login, pin=pin, place=place, notes=notes + pin_notes)


def _login(key: Key) -> str:
    """Return the login name of a key's user; "" if the file has none."""
    user = _USER_ID.match(key.userid or "")
    return (user[1] or user[2]) if user else ""


def _require_usable(key: Key, now: int) -> None:
    """Check that the file allows the use of the key, and that its codes have a supported form."""
    policy = key.policy
    with _library("the policy of the key cannot be read"):
        moment = datetime.fromtimestamp(now, UTC)
        if policy.unknown_policy_elements:
            raise Unreadable("the policy of the key has a rule that is not known here")
        if not policy.may_use("OTP", moment):
            raise Unreadable("the file says that the key is not for codes, has expired or must not be used yet")
    if key.response_encoding not in (None, "DECIMAL"):
        raise Unreadable("the codes are not decimal")
    if key.response_check:
        raise Unreadable("the codes have a check digit")


def _pin(key: Key) -> tuple[str, tuple[str, ...]]:
    policy = key.policy
    if policy.pin_usage == "Algorithmic":
        raise Unreadable("the PIN goes into the computation of the codes")
    if policy.pin_usage not in ("Prepend", "Append"):
        return "", ("the token itself asks for a PIN",) if policy.pin_usage else ()
    with _library("the PIN cannot be read"):
        pin = policy.pin or ""
    if not pin.isprintable():
        raise Unreadable("the PIN cannot be typed")
    return pin, ("the PIN is typed behind the code",) if policy.pin_usage == "Append" else ()


def _notes(key: Key, algorithm: str) -> tuple[str, ...]:
    notes = []
    if key.response_length is None:
        notes.append("the file does not say how many digits a code has; 6 is usual")
    if algorithm == "hotp" and key.counter is None:
        notes.append("the file has no counter; a new token begins with 0")
    if key.policy.expiry_date is not None:
        notes.append("the file says when the key expires; here no token does")
    if key.policy.number_of_transactions is not None:
        notes.append("the file limits how often the key may be used; here nothing does")
    if key.device.pskc.signature.is_signed:
        notes.append("the file is signed; the signature was not checked")
    return tuple(notes)
