"""Return the first inputs of each target, valid ones and near misses: `python -m tests.fuzz.seeds` writes them.

The keys are those of the RFCs' appendices. Findings of long runs are added to the same directories by hand.
"""

from __future__ import annotations

import json

from pam_softtoken import option_table
from pam_softtoken.account import signers, state, state_format, token_file
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.bridge import wire
from pam_softtoken.fleet.etcd_messages import bytes_field, number_field
from pam_softtoken.fleet.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from pam_softtoken.otp import ocra, ocra_uri, signing
from pam_softtoken.otp.ocra import OCRAToken
from pam_softtoken.otp.pin import PIN
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import HOTPToken, Secret, TOTPToken
from tests.device import export_maker, manager_exports
from tests.fuzz.harness import CORPUS
from tests.support.signing import KEY, made

RFC_KEY = b"12345678901234567890"  # RFC 4226, appendix D


def _token_files() -> dict[str, bytes]:
    totp = TOTPToken("phone", Secret(RFC_KEY), algorithm="SHA256", digits=8, created=1700000000, period_s=60)
    hotp = HOTPToken("button", Secret(RFC_KEY * 3), algorithm="SHA512", digits=7, created=5, counter=2**62 - 1)
    codes = RecoverySet(b"s" * 16, (b"1" * 16, b"2" * 16), scrypt_n=2**10)
    good = token_file.serialise(TokenFile((totp, hotp), codes))
    one = token_file.serialise(TokenFile((totp,), RecoverySet(b"s" * 16, ())))
    return {
        "two-tokens": good,
        "bound": token_file.serialise(TokenFile((totp,), RecoverySet(b"s" * 16, ())), owner=("CORP\\carol", 2**32 - 1)),
        "bound-to-no-name": one.replace(b'"version": 1', b'"version": 1, "account": {"name": "", "uid": 0}'),
        "bound-to-no-uid": one.replace(b'"version": 1', b'"version": 1, "account": {"name": "carol"}'),
        "bound-to-a-uid-below-none": one.replace(b'"version": 1', b'"version": 1, "account": {"name": "a", "uid": -1}'),
        "pin-and-scratch-codes": token_file.serialise(
            TokenFile(
                (totp,),
                RecoverySet(b"s" * 16, (b"1" * 16,), scrypt_n=2**10, scratch=True),
                PIN(b"p" * 16, b"h" * 16, length=4, scrypt_n=2**10),
            )
        ),
        "one-token": json.dumps(json.loads(one)).encode(),
        "a-name-of-another-script": one.replace(b"phone", b"\\u043a\\u043b\\u044e\\u0447"),
        "half-a-character-as-a-key": b'{"version": 1, "tokens": [], "\\ud800": 1}',
        "half-a-character-as-a-name": one.replace(b"phone", b"\\udfff"),
        "a-key-twice": one.replace(b'"version": 1', b'"version": 1, "version": 1'),
        "a-key-of-bad-base32": one.replace(b"GEZDGNBV", b"GEZDGNB1"),
        "a-number-too-long": one.replace(b"1700000000", b"9" * 21),
        "a-number-that-is-none": one.replace(b"1700000000", b"1.7e9"),
        "minus-nothing": one.replace(b"1700000000", b"-0"),
        "a-fraction": one.replace(b'"digits": 8', b'"digits": 8.0'),
        "true-for-one": one.replace(b'"version": 1', b'"version": true'),
        "infinity": one.replace(b"1700000000", b"Infinity"),
        "cut-short": good[:-20],
        "more-after-the-end": one + b"{}",
        "deep": b"[" * 2000,
        "nothing": b"",
    }


def _signer_files() -> dict[str, bytes]:
    suite = ocra.Suite.parse(ocra.SIGNING_SUITE)
    two = tuple(OCRAToken(name, Secret(name.encode() * 8), suite=suite, created=7) for name in ("laptop", "tablet"))
    good = signers.serialise(two, owner=("alice", 1000))
    return {
        "two": good,
        "none": signers.serialise((), owner=("CORP\\carol", 2**32 - 1)),
        "one-line": json.dumps(json.loads(good)).encode(),
        "other-suite": good.replace(b"QH64", b"QH40", 1),
        "other-type": good.replace(b"ocra", b"totp", 1),
        "same-name": good.replace(b"tablet", b"laptop"),
        "no-account": good.replace(b"account", b"owner"),
        "a-field-more": good.replace(b'"type"', b'"digits": 8, "type"', 1),
        "a-token-file": _token_files()["bound"],
        "cut-short": good[:-9],
    }


def _full_state() -> State:
    present = State.new()
    for number in range(state.MAX_RECORDS):
        present = present.with_last(f"{number:032x}", 2**62 - 1)
    for number in range(state.MAX_SOURCES):
        present = present.with_source(f"{number:016x}", 2**31).with_wrong(f"{number:016x}", 9999, 2**31)
    return present.with_set("a" * 16).with_spent("a" * 16, "b" * 8)


def _states() -> dict[str, State]:
    return {
        "new": State.new(),
        "used": State(
            last={"0" * 32: state.NEVER, "1" * 32: 57000000},
            drift={"1" * 32: -2},
            when={"1" * 32: 1700000000},
            notes={"e" * 24: (1700000000, (("0" * 32, 12),), True)},
            missed={"c" * 16: 2},
            spent={"a" * 16: ()},
            wrong={"remote": (3, 9)},
            sources={"c" * 16: 7},
            graces={"d" * 16: (8, 3)},
        ),
        "full": _full_state(),
    }


def _state_files() -> dict[str, bytes]:
    made = {}
    for name, each in _states().items():
        made[name] = state_format.encode(each, 2) + state_format.encode(each, 1)
    torn = bytearray(made["used"])
    torn[100:200] = bytes(100)
    wrong_way_round = state_format.encode(State.new(), 1) + state_format.encode(State.new(), 2)
    return {
        **made,
        "torn": bytes(torn),
        "wrong-way-round": wrong_way_round,
        "too-long": made["new"] + b"\0",
        "too-short": made["used"][:-1],
        "last-sequence-number": bytes(state_format.SLOT_BYTES) + state_format.encode(State.new(), 2**64 - 1),
        "zeros": bytes(state_format.FILE_BYTES),
    }


def _state_texts() -> dict[str, bytes]:
    sequence = (2).to_bytes(8, "big")
    made = {}
    for name, each in _states().items():
        slot = state_format.encode(each, 2)
        made[name] = sequence + slot[18 : 18 + int.from_bytes(slot[16:18], "big")]
    last = b"last " + b"0" * 32
    return {
        **made,
        "plus": sequence + last + b" +5\n",
        "leading-zero": sequence + last + b" 05\n",
        "underscore": sequence + last + b" 1_0\n",
        "huge": sequence + last + b" " + b"9" * 3950 + b"\n",
        "negative": sequence + last + b" -2\n",
        "twice": sequence + (last + b" 5\n") * 2,
        "no-newline": sequence + last + b" 5",
        "no-name": sequence + b"last\n",
        "other-order": sequence + b"source " + b"0" * 16 + b" 1\n" + last + b" 5\n",
        "many-spent": sequence + b"spent " + b"0" * 16 + b" 11111111" * 440 + b"\n",
        "sequence-zero": bytes(8) + last + b" 5\n",
    }


def _confs() -> dict[str, bytes]:
    defaults = "".join(
        f"{option.name} = {option.default}\n"
        for option in option_table.OPTIONS
        if not option.argument_only and not isinstance(option.default, bool) and option.default != ""
    )
    return {
        "defaults": defaults.encode(),
        "flags": b"# a comment\n\n  nullok\necho = yes\nno_throttle=no\n",
        "shared": b"store=/var/lib/softtoken/%U\nwindow=20\n",
        "percent": b"store=/var/%%%%%u/%%U\n",
        "mistakes": b"window=21\nlook_ahead=0\nconf=/x\nwhat\nnullok=maybe\necho\necho\n",
        "upwards": b"store=/var/lib/../%u\n",
        "shared-by-all": b"store=/var/lib/%%u\n",
        "not-utf-8": b"prompt=\xff\n",
        "other-spaces": "prompt\u00a0=\u2003Code:\u3000\n".encode(),
    }


def _arguments() -> dict[str, bytes]:
    return {
        "none": b"",
        "many": b"nullok\0echo=no\0prompt=Code:\0window=3\0store=%h/.x\0timeout=120\0backend=/usr/lib/b\0debug",
        "conf": b"conf=/etc/other.conf\0look_ahead=100",
        "twice": b"window=1\0window=1",
        "digits-of-another-script": "window=\u0663".encode(),
        "not-utf-8": b"prompt=\xff\xfe\0\xed\xa0\x80",
        "empty-value": b"prompt=\0store=\0=\0",
    }


def _starts() -> dict[str, bytes]:
    fields = [b"32768", b"CORP\\alice", b"alice", b"1000", b"1000", b"/home/alice", b"1001", b"1", b"4711"]
    fields += [b"=sshd", b"=192.0.2.7", b"", b"="]

    def frame(*all_fields: bytes) -> bytes:
        return b"\1S" + b"".join(field + b"\0" for field in all_fields)

    return {
        "known": frame(*fields, b"nullok", b"window=2"),
        "unknown": frame(b"0", b"eve", b"", b"", b"", b"", b"0", b"0", b"0", b"", b"", b"", b""),
        "no-look-up": frame(*fields[:2], b"", b"", b"", b"!Cannot allocate memory", *fields[6:]),
        "leading-zero": frame(b"007", *fields[1:]),
        "unknown-with-a-group": frame(*fields[:2], b"", b"", *fields[4:]),
        "uid-without-a-name": frame(*fields[:2], b"", *fields[3:]),
        "name-too-long": frame(*fields[:2], b"a" * 256, *fields[3:]),
        "no-number": frame(b"", *fields[1:]),
        "odd-bytes": frame(fields[0], b"\xff\xc3", *fields[2:]),
        "field-missing": frame(*fields[:12]),
        "no-end": frame(*fields)[:-1],
        "other-version": b"\2" + frame(*fields)[1:],
        "largest": frame(*fields).ljust(wire.MAX_FRAME_BYTES - 1, b"x") + b"\0",
        "too-large": frame(*fields).ljust(wire.MAX_FRAME_BYTES, b"x") + b"\0",
    }


def _answers() -> dict[str, bytes]:
    return {
        "otp": b"\1A=123 456",
        "recovery-code": b"\1A=9kqt-4haw-7xec",
        "empty": b"\1A=",
        "missing": b"\1A-",
        "failed": b"\1A!",
        "longest": b"\1A=" + b"1" * 512,
        "too-long": b"\1A=" + b"1" * 513,
        "odd-bytes": b"\1A=\xff\0",
    }


def _typed() -> dict[str, bytes]:
    return {
        "otp": b"755224",
        "spaced": b" 94 287 082 ",
        "recovery-code": b"9KQT-4HAW-7XEC",
        "pin-and-otp": b"4711 287 082",
        "password-and-recovery-code": "geh\u00e9im-9kqt-4haw-7xec ".encode(),
        "long-s": "9KQT-4HAW-7XE\u017f".encode(),
        "other-digits": "\u0661\u0662\u0663\u0664\u0665\u0666".encode(),
        "newline": b"755224\n",
        "many-spaces": b" " * 60 + b"755224",
        "not-utf-8": b"\xff" * 6,
    }


def _sent() -> dict[str, bytes]:
    return {
        "prompt": b"Verification code: ",
        "percent": b"%s%n",
        "nul": b"a\0b",
        "not-utf-8": b"\xff\xfe",
        "too-long": "\u20ac".encode() * 1400,
    }


def _uris() -> dict[str, bytes]:
    return {
        "totp": b"\0\4" + RFC_KEY + b"my host\0alice",
        "hotp": b"\1\4" + RFC_KEY + b"my host\0alice",
        "sha-512": b"\4\x2f" + RFC_KEY * 3 + b"abc\0",
        "separators": b"\2\4" + RFC_KEY + b"a:b\0c/d?e&f=g#h%41",
        "other-script": b"\0\4" + RFC_KEY + "\u00e4\u0000\u043a".encode(),
        "not-utf-8": b"\0\4" + RFC_KEY + b"h\0\xff",
    }


def _exports() -> dict[str, bytes]:
    aegis, encrypted, twofas = export_maker.aegis(), export_maker.aegis_encrypted(), export_maker.twofas()
    # One account of each type is enough at first, and leaves the fuzzer less to change in vain.
    few = {**aegis, "db": {"version": 3, "entries": aegis["db"]["entries"][2:4] + aegis["db"]["entries"][-1:]}}
    uri = b"otpauth://hotp/a%3Ab?secret=GEZDGNBVGY3TQOJQ&counter=7\n"
    migration = b"otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8SGEV4YW1wbGU6YWxpY2VAZ29vZ2xlLmNvbRoHRXhhbXBsZTAC"
    documents = {
        "aegis": few,
        "aegis-encrypted": {**encrypted, "db": "AAAA"},
        "aegis-too-much-work": {"version": 1, "header": {"slots": [{"type": 1, "n": 2**30, "r": 8, "p": 1}]}, "db": ""},
        "andotp": export_maker.andotp()[2:4],
        "twofas": {**twofas, "services": twofas["services"][2:4]},
        "twofas-encrypted": {"schemaVersion": 4, "servicesEncrypted": "AAAA:AAAA:AAAAAAAAAAAAAAAA"},
        "freeotp-plus": export_maker.freeotp_plus(tokens=export_maker.freeotp_plus()["tokens"][2:4]),
        "half-a-character": [{"secret": "GEZDGNBVGY3TQOJQ", "label": "\udfff"}],
        "unknown": {"items": []},
        "bitwarden": manager_exports.bitwarden(items=manager_exports.bitwarden()["items"][1:5]),
        "proton-authenticator": manager_exports.proton_authenticator(
            entries=manager_exports.proton_authenticator()["entries"][-2:]
        ),
        "proton-pass": manager_exports.proton_pass(),
        "stratum": manager_exports.stratum(Authenticators=manager_exports.stratum()["Authenticators"][3:5]),
        "raivo": manager_exports.raivo()[2:4],
        "twofauth": manager_exports.twofauth(data=manager_exports.twofauth()["data"][2:4]),
        "twofauth-uris": manager_exports.twofauth(data=["otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ"]),
        "ente-encrypted": {**manager_exports.ente(), "encryptedData": "A" * 40, "encryptionNonce": "A" * 32},
    }
    return {
        **{name: json.dumps(document).encode() for name, document in documents.items()},
        "andotp-encrypted": b"\0\0\3\xe8" + bytes(50),
        "byte-order-mark": b"\xef\xbb\xbf[]",
        "deep": b"[" * 2000,
        "a-fraction": b'[{"digits": 6.0, "secret": "GEZDGNBVGY3TQOJQ", "label": ""}]',
        "key-uris": uri + b"otpauth://steam/x?secret=GEZDGNBVGY3TQOJQ\n" + migration,
        "bitwarden-csv": manager_exports.bitwarden_csv().encode()[:700],
        "keepassxc-csv": manager_exports.keepassxc_csv().encode()[:700],
        "keepassxc-xml": manager_exports.keepassxc_xml(
            {"TOTP Seed": "GEZDGNBVGY3TQOJQ"}, {"otp": "key=GEZDGNBV&size=8"}
        ),
        "onepassword": manager_exports.onepassword(b'{"accounts":[]}'),
        "key-uri-of-ente": b"otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&codeDisplay=%7B%22trashed%22%3Atrue%7D",
        "openpgp": b"-----BEGIN PGP MESSAGE-----",
    }


def _conversations() -> dict[str, bytes]:
    """Return the inputs for the bridge: see `bridge_frames.c`."""

    def text(content: bytes) -> bytes:
        return len(content).to_bytes(2, "big") + content

    def case(*frames: bytes, answer: bytes = b"\1123456", items: bytes = b"") -> bytes:
        filled = items or text(b"alice") + text(b"/home/alice") + text(b"sshd") + text(b"192.0.2.7") + text(b"")
        return filled + text(b"nullok") + text(b"timeout=5") + text(answer) + b"".join(text(frame) for frame in frames)

    converse, line, verdict = b"\1C\1Code: ", b"\1L\5result=denied", b"\1R\0\6user=alice"
    forged = b'\1L\5user=alice\nroot detail="a b"'
    return {
        "accepted": case(converse, verdict),
        "other-spelling": case(
            converse, verdict, items=text(b"\\alice") + b"".join(map(text, (b"/home", b"", b"", b"")))
        ),
        "no-name": case(converse, verdict, items=text(b"\\") + b"".join(map(text, (b"/home", b"", b"", b"")))),
        "denied": case(converse, line, b"\1R\7"),
        "asked-twice": case(converse, converse, b"\1R\0"),
        "no-answer": case(converse, b"\1R\0", answer=b"\0"),
        "conversation-fails": case(converse, b"\1R\0", answer=b"\2"),
        "long-answer": case(converse, b"\1R\0", answer=b"\1" + b"1" * 513),
        "no-verdict": case(converse, line),
        "empty-frame": case(b"", b"\1R\0"),
        "short-frame": case(b"\1R", b"\1R\0"),
        "short-frame-behind-a-zero": case(b"\1L\0x", b"\1R"),
        "largest-frame": case(b"\1C\4" + b"x" * 4093, b"\1R\0"),
        "too-large-frame": case(b"\1C\4" + b"x" * 4094, b"\1R\0"),
        "nul-in-a-text": case(b"\1L\6a\0b", b"\1R\0"),
        "odd-level": case(b"\1R\0\x08x"),
        "level-alone": case(b"\1R\0\7"),
        "authtok": case(b"\1G\6", b"\1P\6secret", verdict),
        "no-authtok": case(b"\1G\6", b"\1R\0", answer=b"\0"),
        "authtok-fails": case(b"\1G\6", b"\1P\6secret", b"\1R\0", answer=b"\2"),
        "long-authtok": case(b"\1G\6", b"\1R\0", answer=b"\1" + b"1" * 513),
        "nul-in-an-authtok": case(b"\1P\6a\0b", b"\1R\0"),
        "another-item": case(b"\1P\2root", b"\1R\0"),
        "another-item-read": case(b"\1G\1", b"\1R\0"),
        "newcomer": case(b"\1G\0SSH_AUTH_INFO_0", b"\1P\0PAM_SOFTTOKEN_ENROL=alice", b"\1R\x19"),
        "newcomer-known": case(b"\1G\0PAM_SOFTTOKEN_ENROL", b"\1P\0PAM_SOFTTOKEN_ENROL", b"\1R\x19"),
        "newcomer-with-a-long-key": case(b"\1G\0SSH_AUTH_INFO_0", b"\1R\x19", answer=b"\1" + b"k" * 700),
        "another-variable": case(b"\1P\0LD_PRELOAD=x", b"\1R\0"),
        "note": case(b"\1P\0PAM_SOFTTOKEN_NOTE=0123456789abcdef", b"\1R\0"),
        "note-read": case(b"\1G\0PAM_SOFTTOKEN_NOTE", b"\1R\0"),
        "note-with-a-longer-name": case(b"\1P\0PAM_SOFTTOKEN_NOTES=1", b"\1R\0"),
        "another-variable-read": case(b"\1G\0HOME", b"\1R\0"),
        "trial": case(b"\1G\0PAM_SOFTTOKEN_TRIAL", b"\1R\0"),
        "trial-claimed": case(b"\1P\0PAM_SOFTTOKEN_TRIAL=yes", b"\1R\0"),
        "variable-with-a-longer-name": case(b"\1P\0PAM_SOFTTOKEN_ENROLLED=1", b"\1R\0"),
        "ignored": case(b"\1R\x19"),
        "odd-verdict": case(b"\1R\6"),
        "line-for-a-journal": case(forged, b"\1R\0"),
        "line-for-a-daemon": case(
            forged, b"\1R\0", items=b"".join(map(text, (b"alice", b"/home", b"login", b"", b"")))
        ),
        "63-lines": case(*[b"\1L\6x"] * 63, b"\1R\0"),
        "64-lines": case(*[b"\1L\6x"] * 64, b"\1R\0"),
        "items-too-large": case(b"\1R\0", items=text(b"u" * 4000) + text(b"h" * 90) + text(b"") * 3),
        "nothing": b"",
    }


def _signing_requests() -> dict[str, bytes]:
    full = made(
        cwd="/home/my dir", chroot="/srv", env=("A=b  c", "LD_PRELOAD=/x"), run=("/bin/sh", "-c", 'echo "\\\n"', ""),
        argv0="-sh", kind="shell", notes=("one", "two"),
    ).encode()  # fmt: skip
    return {
        "usual": made().encode(),
        "everything": full,
        "two-spaces": full.replace(b"b \\x20c", b"b  c"),
        "in-quotes": made().encode().replace(b"tty pts/3", b'tty "pts/3"'),
        "other-order": made().encode().replace(b"host server\nuser alice", b"user alice\nhost server"),
        "request": signing.make_request(KEY, made()).encode(),
        "request-cut-off": signing.make_request(KEY, made()).encode()[:-3],
        "request-of-no-bytes": b"stq1.",
    }


def _signer_uris() -> dict[str, bytes]:
    token = OCRAToken("laptop", Secret(KEY), suite=ocra.Suite.parse(ocra.SIGNING_SUITE), created=0)
    uri = ocra_uri.build(token, issuer="host", account="\xe4 b").encode()
    return {
        "uri": uri,
        "no-suite": uri.replace(b"&suite=", b"&sweet="),
        "capital-escapes": uri.replace(b"%3A", b"%3a"),
        "more": uri + b"&digits=6",
        "suite": b"OCRA-1:HOTP-SHA512-10:C-QA64-PSHA512-S512-T48H",
        "suite-out-of-order": b"OCRA-1:HOTP-SHA1-6:QN08-T1M-S064",
    }


def _etcd_messages() -> dict[str, bytes]:
    header = bytes_field(1, number_field(1, 7) + number_field(2, 8) + number_field(3, 42) + number_field(4, 2))

    def get(key: bytes, *values: bytes) -> bytes:
        pairs = [
            bytes_field(1, key) + number_field(2, 3) + number_field(3, 9) + number_field(4, 1) + bytes_field(5, value)
            for value in values
        ]
        answer = header + b"".join(bytes_field(2, pair) for pair in pairs) + number_field(4, len(values))
        return bytes_field(3, bytes_field(1, answer))

    done = number_field(2, 1)
    three = get(b"/tokens", b"sealed") + get(b"/state", b"sealed") + get(b"/floor")
    return {
        "read": header + done + three,
        "conflict": header + three,
        "written": header + done + bytes_field(3, bytes_field(2, header)),
        "written-and-read": header + done + bytes_field(3, bytes_field(2, header)) + get(b"/state", b"1"),
        "two-of-three": header + get(b"/tokens", b"sealed") + get(b"/state", b"sealed"),
        "another-key": header + get(b"/token", b"sealed") + get(b"/state", b"sealed") + get(b"/floor"),
        "a-key-twice": header + get(b"/tokens", b"1", b"2") + get(b"/state", b"sealed") + get(b"/floor"),
        "no-revision": bytes_field(1, number_field(1, 7)) + done + three,
        "an-endless-number": b"\xff" * 11,
        "a-number-too-large": b"\x10" + b"\xff" * 9 + b"\x7f",
        "beyond-its-end": header[:1] + b"\x7f" + header[2:],
        "a-group": b"\x0b" + header,
        "field-0": b"\x00\x00" + header,
        "later-fields": header + done + number_field(77, 5) + b"\xfd\x04" + bytes(4) + b"\xf9\x04" + bytes(8) + three,
        "empty": b"",
    }


def _etcd_frames() -> dict[str, bytes]:
    settings = frame(SETTINGS, 0, 0, b"\0\5\0\0\x40\0")
    headers = frame(HEADERS, END_HEADERS, 1, b"\x88\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64")
    status = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x01\x30")
    message = _etcd_messages()["read"]
    body = b"\0" + len(message).to_bytes(4, "big") + message
    data = frame(DATA, 0, 1, body)
    good = settings + frame(SETTINGS, ACK, 0) + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x50") + headers + data + status
    return {
        "answer": good,
        "answer-in-pieces": settings + headers + frame(DATA, 0, 1, body[:9]) + frame(DATA, 0, 1, body[9:]) + status,
        "refusal": settings + status,
        "ping": settings + frame(PING, 0, 0, b"12345678") + headers + data + status,
        "headers-in-pieces": settings
        + frame(HEADERS, 0, 1, b"\x88") + frame(CONTINUATION, END_HEADERS, 1, b"\x5f") + data + status,
        "status-in-pieces": settings + headers + data
        + frame(HEADERS, END_STREAM, 1, b"\x40") + frame(CONTINUATION, END_HEADERS, 1, b"\x88"),
        "unknown-kind": settings + frame(0xEE, 3, 9, b"x") + headers + data + status,
        "no-settings": headers + data + status,
        "goodbye": settings + frame(GOAWAY, 0, 0, bytes(8)),
        "reset": settings + headers + frame(RST_STREAM, 0, 1, b"\0\0\0\1"),
        "reset-of-another": settings + frame(RST_STREAM, 0, 3, b"\0\0\0\1") + headers + data + status,
        "pushed": settings + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x88"),
        "padded": settings + headers + frame(DATA, PADDED, 1, b"\1" + body + b"\0") + status,
        "another-stream": settings + headers + frame(DATA, 0, 3, body) + status,
        "data-first": settings + data + status,
        "no-status": settings + headers + frame(DATA, END_STREAM, 1, body),
        "gap-in-headers": settings + frame(HEADERS, 0, 1, b"\x88") + data,
        "headers-twice": settings + headers + headers + data + status,
        "two-messages": settings + headers + data + data + status,
        "compressed": settings + headers + frame(DATA, 0, 1, b"\1" + body[1:]) + status,
        "half-a-message": settings + headers + frame(DATA, 0, 1, body[:-1]) + status,
        "after-the-end": good + status,
        "too-large": settings + b"\x00\x40\x01\x00\x00\x00\x00\x00\x01" + bytes(64),
        "window-of-nothing": settings + frame(WINDOW_UPDATE, 0, 0, bytes(4)),
        "window-too-large": settings + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
        "odd-settings": frame(SETTINGS, 0, 0, b"\0\5\0"),
        "settings-out-of-range": frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
        "http-1": b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "cut-short": good[:-3],
    }  # fmt: skip


def _realm_states() -> dict[str, bytes]:
    last = State.new().with_accepted("a" * 32, 5, drift=1, now=9).with_set("b" * 16).with_spent("b" * 16, "c" * 8)
    good = state_format.encode_text(last)
    return {"good": good, "empty": b"", "no-end": good[:-1], "twice": good + good, "not-ascii": good + b"\xff\n"}


def seeds() -> dict[str, dict[str, bytes]]:
    """Return the inputs of each target, by name."""
    return {
        "token_file": _token_files(),
        "signer_file": _signer_files(),
        "state_file": _state_files(),
        "state_text": _state_texts(),
        "state_of_a_realm": _realm_states(),
        "etcd_frames": _etcd_frames(),
        "etcd_message": _etcd_messages(),
        "conf": _confs(),
        "arguments": _arguments(),
        "start_frame": _starts(),
        "answer_frame": _answers(),
        "typed_answer": _typed(),
        "sent_frames": _sent(),
        "uri": _uris(),
        "app_export": _exports(),
        "signing_request": _signing_requests(),
        "key_uri_of_signer": _signer_uris(),
        "bridge_frames": _conversations(),
    }


if __name__ == "__main__":
    for target, inputs in seeds().items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, content in inputs.items():
            (CORPUS / target / name).write_bytes(content)
