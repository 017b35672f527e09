"""Define the fuzzed targets, and what must hold for any input: one function of bytes for each parser.

Each allows only the exception that its parser documents, and checks that accepted input is written again unchanged.
Imports no fuzzer, so that the kept inputs can be replayed without one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from urllib.parse import parse_qsl, unquote, urlsplit

from pam_softtoken import config, log, option_table
from pam_softtoken.account import signers, state_format
from pam_softtoken.account import token_file as tokenfile
from pam_softtoken.account.location import Location
from pam_softtoken.account.state import State
from pam_softtoken.bridge import wire
from pam_softtoken.errors import (
    BadTokenFile,
    ConfigError,
    DamagedState,
    MalformedAnswer,
    ProtocolError,
)
from pam_softtoken.fleet import etcd_messages, http2
from pam_softtoken.interchange import key_uri_reader
from pam_softtoken.interchange.apps import exports
from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES
from pam_softtoken.login import answer
from pam_softtoken.otp import hotp, key_uri, ocra, ocra_uri, recovery_code, signing
from pam_softtoken.otp.mac import sha256
from pam_softtoken.otp.statement import Statement, shown_lines
from pam_softtoken.otp.token import HOTPToken, Secret, Token, TOTPToken, encode_base32
from pam_softtoken.program_errors import BadRequest, BadStatement, BadSuite, ImportFailed, Unreadable

SIGNING_KEY = b"12345678901234567890123456789012"
PATH = "/home/alice/.softtoken/file"


def _assert_can_be_logged(error: Exception) -> None:
    lines: list[str] = []
    log.Log(lambda level, line: lines.append(line)).outcome(log.ALERT, "denied", "internal", detail=str(error))
    assert lines[0].isascii()
    assert lines[0].isprintable()


def token_file(data: bytes) -> None:
    """Read a token file, whose content its owner controls."""
    try:
        content, owner = tokenfile.parse_any(data, path=PATH)
    except BadTokenFile as error:
        _assert_can_be_logged(error)
        return
    assert len(data) <= tokenfile.MAX_BYTES
    written = tokenfile.serialise(content, owner=owner)
    assert len(written) <= tokenfile.MAX_BYTES
    # The standard library's reader sees the same, down to `6` not being `6.0` or `true`.
    seen = [json.loads(text, object_pairs_hook=_without_repetition) for text in (data, written)]
    assert json.dumps(seen[0], sort_keys=True) == json.dumps(seen[1], sort_keys=True)
    again = tokenfile.parse(written, path=PATH, owner=owner)
    assert tokenfile.serialise(again, owner=owner) == written
    assert [token.fingerprint() for token in again.tokens] == [token.fingerprint() for token in content.tokens]
    for token in content.tokens:
        assert len(token.otp_at(0)) == token.digits


def signer_file(data: bytes) -> None:
    """Read a file of tokens that sign."""
    try:
        found, owner = signers.parse_any(data, path=PATH)
    except BadTokenFile as error:
        _assert_can_be_logged(error)
        return
    assert len(data) <= tokenfile.MAX_BYTES
    assert len(found) <= signers.MAX_SIGNERS
    written = signers.serialise(found, owner=owner)
    seen = [json.loads(text, object_pairs_hook=_without_repetition) for text in (data, written)]
    assert json.dumps(seen[0], sort_keys=True) == json.dumps(seen[1], sort_keys=True)
    again = signers.parse(written, path=PATH, owner=owner)
    assert [token.fingerprint() for token in again] == [token.fingerprint() for token in found]


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def state_file(data: bytes) -> None:
    """Read a whole state file; the checksums reject nearly all inputs."""
    try:
        sequence, present = state_format.decode(data, path=PATH)
    except DamagedState as error:
        _assert_can_be_logged(error)
        return
    place = state_format.place_of(sequence)
    assert state_format.encode(present, sequence) == data[place : place + state_format.SLOT_BYTES]
    _assert_can_go_on(present, sequence)


def state_text(data: bytes) -> None:
    """Read a slot with a right checksum: 8 bytes of sequence number, then the text."""
    text = data[8 : 8 + state_format.SLOT_BYTES]
    content = state_format.MAGIC + data[:8].ljust(8, b"\0") + len(text).to_bytes(2, "big") + text
    if len(content) + 32 <= state_format.SLOT_BYTES:
        slot = content.ljust(state_format.SLOT_BYTES - 32, b"\0") + sha256(content).digest()
        state_file(slot + bytes(state_format.SLOT_BYTES))
        state_file(bytes(state_format.SLOT_BYTES) + slot)


def _assert_can_go_on(present: State, sequence: int) -> None:
    """Check that an accepted state can be written again after any attempt. Otherwise the owner would be locked out."""
    changed = (
        present.with_last("f" * 32, 2**64 - 1)
        .with_assumed("e" * 32, 2**62)
        .with_source("f" * 16, 2**40)
        .with_wrong("local", 1, 2**40)
    )
    for name in present.spent:
        changed = changed.with_set(name)
    later = state_format.encode(changed, min(sequence + 1, 2**64 - 1))
    assert len(later) == state_format.SLOT_BYTES


def etcd_frames(data: bytes) -> None:
    """Read what a node of etcd sends on a connection. How it is cut into pieces makes no difference."""
    whole, cut = _fed([data]), _fed([data[:7], data[7:40], data[40:]])
    assert whole == cut
    if isinstance(whole, bytes):
        assert len(whole) <= http2.MAX_MESSAGE_BYTES
        etcd_message(whole)


def _fed(pieces: list[bytes]) -> bytes | str | None:
    """Return the message in an answer; the words of the refusal; or None if it is not there."""
    conversation = http2.Conversation()
    assert conversation.greeting().startswith(b"PRI ")
    conversation.call("/etcdserverpb.KV/Txn", b"request", timeout_ms=1)
    try:
        for piece in pieces:
            replies = conversation.feed(piece)
            assert len(replies) <= 2 * len(b"".join(pieces)) + 9
    except http2.BadAnswer as error:
        _assert_can_be_logged(error)
        return str(error)
    return conversation.message if conversation.has_ended else None


def etcd_message(data: bytes) -> None:
    """Read the answer to a transaction."""
    keys = [b"/tokens", b"/state", b"/floor"]
    try:
        _, revision, entries = etcd_messages.read_transaction(data, keys)
    except ValueError:
        return
    assert revision > 0
    assert len(entries) in (0, 3)
    assert all((entry.value is None) == (entry.revision == 0) for entry in entries)


def state_of_a_realm(data: bytes) -> None:
    """Read the text of a state without a slot: only what was written is accepted, byte for byte."""
    try:
        present = state_format.decode_text(data)
    except ValueError:
        return
    assert state_format.encode_text(present) == data


def conf(data: bytes) -> None:
    """Read the configuration file."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # `files.read_conf` has refused it
    _load([], text)


def arguments(data: bytes) -> None:
    """Read module arguments, each ended by a NUL, as the bridge sends them."""
    _load([piece.decode("utf-8", "surrogateescape") for piece in data.split(b"\0")], "")


def _load(given: list[str], text: str) -> None:
    try:
        settings = config.load(given, lambda path, required: text)
    except ConfigError as error:
        for problem in error.problems:
            _assert_can_be_logged(ConfigError((problem,)))
        return
    values = {option.name: getattr(settings, option.name) for option in option_table.OPTIONS}
    written = {name: f"{name}={_spelling(name, value)}" for name, value in values.items() if value != ""}
    in_file = "".join(f"{written.pop(option.name, '')}\n" for option in option_table.OPTIONS if option.file_only)
    again = config.load([*written.values()], lambda path, required: in_file)
    for option in option_table.OPTIONS:
        assert getattr(again, option.name) == values[option.name]
    _assert_own_directory(settings.store)


def _spelling(name: str, value: bool | int | str) -> str:
    if name == "grace" and value != 0:
        return f"{value}s"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _assert_own_directory(template: str) -> None:
    """Check that no two users share a store, and that it is where the template says."""
    paths = []
    for name, uid in (("alice", 1001), ("bob", 1002)):
        account = SimpleNamespace(name=name, uid=uid, home=f"/home/{name}")
        paths.append(Location(template, account).path)  # type: ignore[arg-type]
    assert paths[0] != paths[1]
    assert all(path.startswith("/") and "/../" not in path + "/" for path in paths)


def start_frame(data: bytes) -> None:
    """Read the bridge's first frame."""
    try:
        start = wire.decode_start(data)
    except ProtocolError:
        return
    assert len(data) <= wire.MAX_FRAME_BYTES
    numbers = [
        str(start.flags),
        "" if start.uid is None else str(start.uid),
        "" if start.uid is None else str(start.gid),
    ]
    home = f"!{start.look_up_error}" if start.look_up_error else start.home
    fields = [numbers[0], start.user, start.name, *numbers[1:], home, str(start.caller_uid), str(start.cpu)]
    fields += [str(start.session)]
    items = [start.service, start.rhost, start.tty, start.ruser]
    fields += ["" if item is None else "=" + item for item in items]
    written = "".join(field + "\0" for field in [*fields, *start.arguments])
    assert b"\1S" + written.encode("utf-8", "surrogateescape") == data


def answer_frame(data: bytes) -> None:
    """Read the user's answer as the bridge sends it, and judge it as the backend does."""
    try:
        typed = wire.decode_answer(data)
    except ProtocolError:
        return
    if typed is None:
        assert data == b"\1A-"
        return
    if len(data) == 3 + wire.MAX_ANSWER_BYTES:
        assert typed == ""
        return
    assert b"\1A=" + typed.encode("utf-8", "surrogateescape") == data
    assert len(data) < 3 + wire.MAX_ANSWER_BYTES
    typed_answer(data[3:])


def typed_answer(data: bytes) -> None:
    """Read a typed answer."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        readings = answer.read(text)
    except MalformedAnswer:
        return
    for reading in readings:
        assert text.startswith(reading.front)
        assert bool(reading.otp) != bool(reading.recovery_code)
        if reading.otp:
            assert hotp.MIN_DIGITS <= len(reading.otp) <= hotp.MAX_DIGITS
            assert not reading.otp.strip("0123456789")
            assert answer.read_code(reading.otp).otp == reading.otp
        else:
            assert len(reading.recovery_code) == recovery_code.LENGTH
            assert not reading.recovery_code.strip(recovery_code.ALPHABET)
            assert answer.read_code(reading.recovery_code).recovery_code == reading.recovery_code


def sent_frames(data: bytes) -> None:
    """Write texts of any kind for the bridge."""
    text = data.decode("utf-8", "surrogateescape")
    for frame in (
        wire.encode_converse(1, text),
        wire.encode_log(5, text),
        wire.encode_put(6, text),
        wire.encode_result(7, 5, text),
    ):
        assert 3 <= len(frame) <= wire.MAX_FRAME_BYTES
        assert b"\0" not in frame[3:]


def uri(data: bytes) -> None:
    """Write Key URIs for the standard library: a byte of kind, a byte of key length, the key, issuer, account."""
    kind, length = (*data[:2], 0, 0)[:2]
    key = data[2 : 18 + length % 48].ljust(16, b"\0")
    issuer, _, account = data[18 + length % 48 :].decode("utf-8", "surrogateescape").partition("\0")
    token = _token(kind, Secret(key))
    text = key_uri.build(token, issuer=issuer, account=account)
    assert text.isascii()
    assert text.isprintable()
    parts = urlsplit(text)
    label = parts.path[1:].split(":")
    # Without an issuer, both its part of the label and its parameter are missing.
    given = [each.replace(":", " ") for each in (issuer, account)] if issuer else [account.replace(":", " ")]
    assert (parts.scheme, parts.netloc, parts.fragment) == ("otpauth", token.kind, "")
    assert [unquote(each, errors="surrogateescape") for each in label] == given
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True, errors="surrogateescape"))
    assert parameters == {
        "secret": encode_base32(key),
        **({"algorithm": token.algorithm} if token.algorithm != "SHA1" else {}),
        **({"digits": str(token.digits)} if token.digits != 6 else {}),
        **({"counter": str(token.counter)} if isinstance(token, HOTPToken) else {}),
        **({"issuer": given[0]} if issuer else {}),
    }


def signing_request(data: bytes) -> None:
    """Read a statement, a request with a right MAC around it, and the data as a whole request."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        signing.read_request(SIGNING_KEY, text)
    except BadRequest as error:
        _assert_can_be_logged(error)
    try:
        found = Statement.parse(data)
    except BadStatement:
        return
    assert found.encode() == data
    assert all(name.isalnum() and value.isascii() and value.isprintable() for name, value in shown_lines(found))
    assert signing.is_signed(SIGNING_KEY, found, signing.sign(SIGNING_KEY, found))
    if found.key == signing.key_id(SIGNING_KEY):
        assert signing.read_request(SIGNING_KEY, signing.make_request(SIGNING_KEY, found)) == found


def key_uri_of_signer(data: bytes) -> None:
    """Read the Key URI of a token that signs, or a suite alone."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        assert ocra.Suite.parse(text).text == text
    except BadSuite:
        pass
    try:
        token, issuer, account = ocra_uri.parse(text, now=0)
    except Unreadable:
        return
    assert ocra_uri.build(token, issuer=issuer, account=account) == text


class _Asked(Exception):
    """The export is encrypted and otherwise correct. The cost of a passphrase is not tested here."""


def app_export(data: bytes) -> None:
    """Read an export of another app, which can come from anywhere."""

    def ask() -> str:
        raise _Asked

    refused = None
    try:
        harvest = exports.read(data, path="export", now=1700000000, ask_passphrase=ask)
    except _Asked:
        return
    except ImportFailed as error:
        refused = error
    if refused is not None:
        assert refused.problems
        assert f"{refused.message}{refused.hint}".isprintable()
        return
    assert harvest.found
    assert all(sentence.isprintable() for sentence in harvest.skipped)
    for record in harvest.found:
        token = record.token
        assert len(token.otp_at(0)) == token.digits
        # An accepted token can be exported and imported again.
        text = key_uri.build(token, issuer="", account=token.name)
        again = key_uri_reader.parse(text, now=1700000000, min_key_bytes=SHORTEST_KEY_BYTES).token
        assert again.fingerprint() == token.fingerprint()
        assert (again.otp_at(1), again.kind) == (token.otp_at(1), token.kind)


def _token(kind: int, secret: Secret) -> Token:
    algorithm, digits = ("SHA1", "SHA256", "SHA512")[kind // 2 % 3], 6 + kind // 6 % 3
    if kind % 2:
        return HOTPToken("button", secret, algorithm=algorithm, digits=digits, created=0, counter=kind)
    return TOTPToken("phone", secret, algorithm=algorithm, digits=digits, created=0)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        token_file,
        signer_file,
        state_file,
        state_text,
        state_of_a_realm,
        etcd_frames,
        etcd_message,
        conf,
        arguments,
        start_frame,
        answer_frame,
        typed_answer,
        sent_frames,
        uri,
        app_export,
        signing_request,
        key_uri_of_signer,
    )
}

MAX_INPUT_BYTES = {
    "token_file": tokenfile.MAX_BYTES + 16,
    "signer_file": tokenfile.MAX_BYTES + 16,
    "state_file": state_format.FILE_BYTES + 16,
}
"""The targets that need more than the length of a frame."""
