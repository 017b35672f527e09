"""The text of a token file and its meaning. The reader is strict, versioned and limited in size. Does no I/O. Importing
`json` would cost a login 6 ms, nearly all of it for `re`, which only the error messages of `json` need. Its scanner is
written in C and costs nothing, so reading uses the scanner. Writing, which only enrolment does, uses `json` itself.
"""

from __future__ import annotations

from pam_softtoken.errors import BadTokenFile, OtherAccount
from pam_softtoken.otp.mac import SCRYPT_P, SCRYPT_R
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import HOTPToken, Secret, Token, TOTPToken, decode_base32, encode_base32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.otp.pin import PIN

try:
    from _json import make_scanner
except ImportError:  # an interpreter without the accelerator
    from json.scanner import make_scanner  # type: ignore[no-redef,assignment,unused-ignore]

VERSION = 1
MAX_BYTES = 32 * 1024
MAX_FILE_BYTES = MAX_BYTES + 128
"""The most that is read of a file: its text can be sealed, see `host_key`."""
MAX_TOKENS = 16
MAX_NAME_CHARACTERS = 255
MAX_UID = 2**32 - 1

Owner = tuple[str, int]
"""The account that a token file in root's store is bound to: canonical name and uid."""

_COMMON = ("name", "type", "key", "algorithm", "digits", "created")
_COUNTING = {"hotp": "counter", "totp": "period"}


class TokenFile:
    """Everything that enrolment writes.

    Args:
        tokens: at least one. No two have the same name or fingerprint.
        recovery: the recovery codes' hashes.
        pin: the PIN's hash, or None.
    """

    __slots__ = ("pin", "recovery", "tokens")

    def __init__(self, tokens: tuple[Token, ...], recovery: RecoverySet, pin: PIN | None = None) -> None:
        if not 1 <= len(tokens) <= MAX_TOKENS:
            raise ValueError(f"there are 1 to {MAX_TOKENS} tokens")
        if len({token.name for token in tokens}) < len(tokens):
            raise ValueError("two tokens have the same name")
        if len({token.fingerprint() for token in tokens}) < len(tokens):
            raise ValueError("two tokens have the same key")
        self.tokens = tokens
        self.recovery = recovery
        self.pin = pin

    def record_names(self) -> frozenset[str]:
        """Return the names under which the state keeps records of these tokens and of this recovery set."""
        return frozenset((self.recovery.name, *(token.fingerprint() for token in self.tokens)))


def parse(data: bytes, *, path: str, owner: Owner | None = None) -> TokenFile:
    """Read a token file's text, for one account.

    Args:
        data: the file's bytes.
        path: its name, for the error.
        owner: the account that the file must be bound to. None for a user's own file, which is bound to no account.

    Raises:
        OtherAccount: it is bound to another account, or to none.
        BadTokenFile: with the place, such as `tokens[0].digits`, and never with a value that could be a key.
    """
    content, bound_to = parse_any(data, path=path)
    if bound_to == owner:
        return content
    if owner is None:
        raise BadTokenFile(path, "account: only a file in a store of root's names its account")
    if bound_to is None:
        command = f"softtoken-admin rebind {owner[0]}"
        raise OtherAccount(path, f"does not name its account; if they are that user's: {command}")
    what = f"holds the tokens of {described(bound_to)}, not of {described(owner)}"
    raise OtherAccount(path, f"{what}; {whose(owner, bound_to)}")


def parse_any(data: bytes, *, path: str) -> tuple[TokenFile, Owner | None]:
    """Read a token file's text, whichever account it belongs to. This is for administration; a login uses `parse`.

    Returns:
        The content, and the account that the file is bound to.

    Raises:
        BadTokenFile: as for `parse`.
    """
    try:
        return _file_from(scan(data))
    except BadTokenFile:
        raise
    except (ValueError, RecursionError) as error:
        raise BadTokenFile(path, str(error)) from None


def described(owner: Owner) -> str:
    """Return an account in the form that messages use."""
    return f"{owner[0]} (uid {owner[1]})"


def rebind_words(present: Owner, former: Owner) -> list[str]:
    """Return the command that declares a present account and a former one the same user.

    Args:
        present: the present account.
        former: the account that root has recorded. An empty name or a uid below 0 means that it is not known.
    """
    words = ["softtoken-admin", "rebind", present[0]]
    words += ["--old-name", former[0]] if former[0] and former[0] != present[0] else []
    words += ["--old-uid", str(former[1])] if former[1] not in (-1, present[1]) else []
    return words


def whose(present: Owner, former: Owner) -> str:
    """Return what an account with a former account's name or uid can be, with the command for each case."""
    same = " ".join(rebind_words(present, former))
    return f"if that is the same user: {same}; if not: softtoken-admin rebind {present[0]} --newcomer"


def serialise(content: TokenFile, *, owner: Owner | None = None) -> bytes:
    """Write a token file's text: JSON, indented, ending with a newline.

    Args:
        content: what the file holds.
        owner: the account that the file is bound to, in root's store.
    """
    import json  # noqa: PLC0415 - see above

    document: dict[str, object] = {"version": VERSION}
    if owner is not None:
        document["account"] = owner_object(owner)
    document |= {
        "tokens": [_object_of(token) for token in content.tokens],
        "recovery": recovery_object(content.recovery),
    }
    if content.pin is not None:
        document["pin"] = {
            "scrypt": [content.pin.scrypt_n, SCRYPT_R, SCRYPT_P],
            "salt": content.pin.salt.hex(),
            "hash": content.pin.digest.hex(),
            "length": content.pin.length,
        }
    return (json.dumps(document, indent=2) + "\n").encode()


def owner_object(owner: Owner) -> dict[str, object]:
    """Return an account in the form of a token file."""
    return {"name": owner[0], "uid": owner[1]}


def recovery_object(recovery: RecoverySet) -> dict[str, object]:
    """Return the hashes of recovery codes in the form of a token file."""
    fields: dict[str, object] = {
        "scrypt": [recovery.scrypt_n, SCRYPT_R, SCRYPT_P],
        "salt": recovery.salt.hex(),
        "hashes": [entry.hex() for entry in recovery.hashes],
    }
    if recovery.scratch:
        fields["scratch"] = True
    return fields


def parse_recovery(data: bytes, *, path: str) -> RecoverySet:
    """Read hashes of recovery codes from a file of their own, in the form of `recovery_object`.

    Raises:
        BadTokenFile: with the place, and never with a value.
    """
    try:
        return _recovery_from(scan(data))
    except (ValueError, RecursionError) as error:
        raise BadTokenFile(path, str(error)) from None


def _object_of(token: Token) -> dict[str, str | int]:
    fields: dict[str, str | int] = {
        "name": token.name,
        "type": token.kind,
        "key": encode_base32(token.secret.reveal()),
        "algorithm": token.algorithm,
        "digits": token.digits,
        "created": token.created,
    }
    if isinstance(token, HOTPToken):
        fields["counter"] = token.counter
    elif isinstance(token, TOTPToken):
        fields["period"] = token.period_s
    return fields


class _ScannerSettings:
    """The settings that the scanner reads from its maker. Each is the strictest."""

    parse_float = float

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}

    strict = True
    object_hook = None

    @staticmethod
    def object_pairs_hook(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) < len(pairs):
            raise ValueError("a key stands twice in one object")
        return result

    @staticmethod
    def parse_int(digits: str) -> int:
        if len(digits) > 20:
            raise ValueError("a number is too long")
        return int(digits)

    @staticmethod
    def parse_constant(name: str) -> object:
        raise ValueError(f"{name} is not a value here")


def scan(data: bytes) -> object:
    """Return the value of a JSON text, read strictly. Raises `ValueError` or `RecursionError`. Other files of the same
    kind use this and the functions below, too.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not ASCII") from None
    text = text.strip(" \t\r\n")
    try:
        value, end = make_scanner(_ScannerSettings())(text, 0)  # type: ignore[arg-type,unused-ignore]
    except (StopIteration, SystemError):  # SystemError where `json` would have been needed for a better message
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError(f"more text after the end, at character {end}")
    return value


def _file_from(document: object) -> tuple[TokenFile, Owner | None]:
    fields = read_object(document, "the file", ("version", "tokens", "recovery"), optional=("account", "pin"))
    if read_integer(fields["version"], "version") != VERSION:
        raise ValueError(f"version: only {VERSION} is known")
    entries = read_array(fields["tokens"], "tokens")
    tokens = tuple(_token_from(entry, f"tokens[{place}]") for place, entry in enumerate(entries))
    pin = _pin_from(fields["pin"]) if "pin" in fields else None
    owner = read_owner(fields["account"]) if "account" in fields else None
    return TokenFile(tokens, _recovery_from(fields["recovery"]), pin), owner


def read_owner(document: object) -> Owner:
    """Return the account that a file names. Raises `ValueError`."""
    fields = read_object(document, "account", ("name", "uid"))
    name, uid = read_text(fields["name"], "account.name"), read_integer(fields["uid"], "account.uid")
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not 0 <= uid <= MAX_UID:
        raise ValueError("account: is out of range")
    return name, uid


def _token_from(document: object, place: str) -> Token:
    kind = document.get("type") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in _COUNTING:
        raise ValueError(f"{place}.type: must be hotp or totp")
    fields = read_object(document, place, (*_COMMON, _COUNTING[kind]))
    name = read_text(fields["name"], f"{place}.name")
    algorithm = read_text(fields["algorithm"], f"{place}.algorithm")
    digits = read_integer(fields["digits"], f"{place}.digits")
    created = read_integer(fields["created"], f"{place}.created")
    counting = read_integer(fields[_COUNTING[kind]], f"{place}.{_COUNTING[kind]}")
    try:
        secret = Secret(decode_base32(read_text(fields["key"], f"{place}.key")))
        if kind == "hotp":
            return HOTPToken(name, secret, algorithm=algorithm, digits=digits, created=created, counter=counting)
        return TOTPToken(name, secret, algorithm=algorithm, digits=digits, created=created, period_s=counting)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _recovery_from(document: object) -> RecoverySet:
    fields = read_object(document, "recovery", ("scrypt", "salt", "hashes"), optional=("scratch",))
    scrypt_n = _scrypt_n(fields["scrypt"], "recovery.scrypt")
    hashes = tuple(_hex(entry, "recovery.hashes") for entry in read_array(fields["hashes"], "recovery.hashes"))
    if fields.get("scratch", True) is not True:
        raise ValueError("recovery.scratch: must be true, or not be there")
    scratch = "scratch" in fields
    try:
        return RecoverySet(_hex(fields["salt"], "recovery.salt"), hashes, scrypt_n=scrypt_n, scratch=scratch)
    except ValueError as error:
        raise ValueError(f"recovery: {error}") from None


def _pin_from(document: object) -> PIN:
    from pam_softtoken.otp import pin  # noqa: PLC0415 - few have one

    fields = read_object(document, "pin", ("scrypt", "salt", "hash", "length"))
    scrypt_n = _scrypt_n(fields["scrypt"], "pin.scrypt")
    salt, digest = _hex(fields["salt"], "pin.salt"), _hex(fields["hash"], "pin.hash")
    try:
        return pin.PIN(salt, digest, length=read_integer(fields["length"], "pin.length"), scrypt_n=scrypt_n)
    except ValueError as error:
        raise ValueError(f"pin: {error}") from None


def _scrypt_n(value: object, place: str) -> int:
    costs = [read_integer(cost, place) for cost in read_array(value, place)]
    if len(costs) != 3 or costs[1:] != [SCRYPT_R, SCRYPT_P]:
        raise ValueError(f"{place}: must be [n, {SCRYPT_R}, {SCRYPT_P}]")
    return costs[0]


def read_object(
    value: object, place: str, keys: tuple[str, ...], *, optional: tuple[str, ...] = ()
) -> dict[str, object]:
    """Return an object that has exactly these keys, and perhaps the optional ones. Raises `ValueError`."""
    if not isinstance(value, dict):
        raise ValueError(f"{place}: must be an object")
    odd = sorted((set(value) - set(optional)) ^ set(keys))
    if odd:
        raise ValueError(f"{place}: missing or unknown: {', '.join(odd)[:80]}")
    return value


def read_array(value: object, place: str) -> list[object]:
    """Return an array. Raises `ValueError`."""
    if not isinstance(value, list):
        raise ValueError(f"{place}: must be an array")
    return value


def read_text(value: object, place: str) -> str:
    """Return a string. Raises `ValueError`."""
    if not isinstance(value, str):
        raise ValueError(f"{place}: must be a string")
    return value


def read_integer(value: object, place: str) -> int:
    """Return an integer. Raises `ValueError`."""
    if type(value) is not int:  # True is an int to isinstance
        raise ValueError(f"{place}: must be an integer")
    return value


def _hex(value: object, place: str) -> bytes:
    text = read_text(value, place)
    if text.strip("0123456789abcdef") or len(text) % 2:
        raise ValueError(f"{place}: must be lower-case hexadecimal")
    return bytes.fromhex(text)
