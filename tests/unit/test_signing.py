"""Statements and requests: one text for each statement, one statement for each text, and codes that are bound to it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import sys

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pam_softtoken.otp import ocra, signing, statement
from pam_softtoken.otp.statement import Statement
from pam_softtoken.program_errors import BadRequest, BadStatement, StatementTooLong
from tests.support.installation import TREE
from tests.support.signing import KEY, made
from tests.unit.test_ocra import model

OTHER_KEY = b"o" * 32

TEXT = b"""\
softtoken-request 1
host server
user alice
as root
in /home/alice
tty pts/3
run /usr/bin/systemctl restart nginx
time 1790000000
nonce 00112233445566778899aabbccddeeff
key %s
""" % signing.key_id(KEY).encode()


def host_texts() -> st.SearchStrategy[str]:
    odd = ["", "a", "a b", "a  b", '"', "\\", "\\x20", " ", "  ", "\n", "\x1b[2K", "ä", "\u202e", "root"]
    datas = st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
    return st.one_of(st.sampled_from(odd), datas)


def statements() -> st.SearchStrategy[Statement]:
    texts = host_texts()
    notes = st.lists(texts.map(lambda text: text.strip(" ")).filter(bool), max_size=2).map(tuple)
    return st.builds(
        made, host=texts, user=texts, as_user=texts, cwd=texts, tty=texts, chroot=st.none() | texts,
        env=st.lists(texts.map(lambda text: f"A={text}"), max_size=3).map(tuple),
        run=st.lists(texts, min_size=1, max_size=4).map(tuple), argv0=st.none() | texts,
        kind=st.sampled_from(["", "shell", "sudoedit"]), notes=notes, time=st.integers(0, 2**40 - 1),
    )  # fmt: skip


def facts(each: Statement) -> tuple[object, ...]:
    """Return everything that a statement says, without its own idea of equality."""
    return tuple(getattr(each, name) for name in sorted(Statement.__slots__))


def test_statement__has_this_text() -> None:
    assert made().encode() == TEXT


def test_statement__with_everything_has_this_text() -> None:
    full = made(
        as_user="root:adm", cwd="/home/my dir", tty="", chroot="/srv", env=("LD_PRELOAD=/tmp/x.so", "A=b  c"),
        run=("/bin/sh", "-c", 'echo "hi\\n"\n', "", "ä"), argv0="-sh", kind="shell",
        notes=("alice can change /opt/ä", "everything typed there runs as root"),
    )  # fmt: skip
    lines = full.encode().decode().splitlines()
    assert lines[3:14] == [
        "as root:adm",
        'in "/home/my dir"',
        'tty ""',
        "chroot /srv",
        "env LD_PRELOAD=/tmp/x.so",
        'env "A=b \\x20c"',
        'run /bin/sh -c "echo \\"hi\\\\n\\"\\x0a" "" "\\xc3\\xa4"',
        "argv0 -sh",
        "kind shell",
        "note alice can change /opt/\\xc3\\xa4",
        "note everything typed there runs as root",
    ]


@given(statements())
def test_statement__is_read_as_it_was_written(each: Statement) -> None:
    text = each.encode()
    assert text.isascii()
    assert all(line.isprintable() for line in text.decode().splitlines())
    again = Statement.parse(text)
    assert facts(again) == facts(each)
    assert again == each
    assert again.encode() == text


@given(statements(), statements())
@example(made(run=("a", "b c")), made(run=("a b", "c")))
@example(made(run=("a\nas root",)), made(run=("a",)))
@example(made(run=("\\x20",)), made(run=(" ",)))
@example(made(env=("A=b", "C=d")), made(env=("A=b\nenv C=d",)))
@example(made(notes=("a", "b")), made(notes=("a\nnote b",)))
def test_statement__two_different_ones_never_have_one_text(one: Statement, other: Statement) -> None:
    assert (facts(one) == facts(other)) == (one.encode() == other.encode())
    assert (one == other) == (facts(one) == facts(other))


@given(statements(), st.sampled_from(sorted(Statement.__slots__)), st.data())
def test_statement__each_changed_field_gives_another_code(each: Statement, name: str, data: st.DataObject) -> None:
    """The MAC without truncation is compared: 8 digits collide by chance."""
    changed = dict(zip(sorted(Statement.__slots__), facts(each), strict=True))
    number = data.draw(st.integers(1, 9))
    changed[name] = {
        "time": each.time ^ number,
        "nonce": f"{number}" * 32,
        "key": f"{number}" * 16,
        "kind": each.kind + "x",
        "run": (*each.run, ""),
        "env": (*each.env, "A="),
        "notes": (*each.notes, "n"),
    }.get(name, f"{changed[name] or ''}{number}")
    other = Statement(**changed)  # type: ignore[arg-type]
    assume(facts(other) != facts(each))
    suite = ocra.Suite.parse(ocra.SIGNING_SUITE.replace("-8:", "-0:"))
    codes = {ocra.compute(suite, KEY, question=hashlib.sha256(text.encode()).hexdigest()) for text in (each, other)}
    assert len(codes) == 2


@given(statements(), st.data())
def test_parser__accepts_no_other_spelling(each: Statement, data: st.DataObject) -> None:
    text = each.encode()
    place = data.draw(st.integers(0, len(text)))
    changed = text[:place] + data.draw(st.sampled_from([b"", b" ", b'"', b"\\", b"\n", b"\\x20", b"0", b"\xff"]))
    changed += text[place + data.draw(st.integers(0, 2)) :]
    try:
        found = Statement.parse(changed)
    except BadStatement:
        return
    assert found.encode() == changed
    assert (changed == text) == (facts(found) == facts(each))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"softtoken-request 1", b"softtoken-request 2"),
        (b"host server\n", b""),
        (b"host server\n", b"host server\n" * 2),
        (b"host server\nuser alice", b"user alice\nhost server"),
        (b"tty pts/3", b'tty "pts/3"'),
        (b"tty pts/3", b"tty "),
        (b"tty pts/3", b"tty"),
        (b"tty pts/3", b"tty pts/3 4"),
        (b"tty pts/3", b"tty  pts/3"),
        (b"pts/3\n", b"pts/3\r\n"),
        (b"tty pts/3", b'tty "pts 3'),
        (b"tty pts/3", b'tty "\\x20"'),
        (b"tty pts/3", b'tty "\\x2"'),
        (b"tty pts/3", b'tty "\\x0A"'),
        (b"tty pts/3", b'tty "\\n"'),
        (b"tty pts/3", b'tty "\\x00"'),
        (b"tty pts/3", b"tty p\\x20s"),
        (b"tty pts/3", b'tty "a  b"'),
        (b"time 1790000000", b"time 01790000000"),
        (b"time 1790000000", b"time -1"),
        (b"time 1790000000", b"time +1"),
        (b"time 1790000000", b"time 1_0"),
        (b"time 1790000000", b"time 99999999999999"),
        (b"restart nginx", b"restart  nginx"),
        (b"run", b"ran"),
        (b"nonce 0011", b"nonce 00AA"),
        (b"nonce 0011", b"nonce 001"),
        (b"run", b"env A\nrun"),
        (b"run", b"note \nrun"),
        (b"run", b"note a\nrun"),
        (b"time", b"kind Shell\ntime"),
        (b"time", b"kind a b\ntime"),
        (b"time", b"time 1\ntime"),
        (b"time", b"note a \ntime"),
        (b"time", b"secret a\ntime"),
        (b"host server", b"host s\xc3\xa4rver"),
    ],
)
def test_parser__refuses(old: bytes, new: bytes) -> None:
    assert old in TEXT
    with pytest.raises(BadStatement):
        Statement.parse(TEXT.replace(old, new, 1))


@pytest.mark.parametrize("data", [b"", b"\n", TEXT[:-1], TEXT + b"\n", TEXT + b"\0", TEXT * 20])
def test_parser__refuses_what_is_cut_off_or_goes_on(data: bytes) -> None:
    with pytest.raises(BadStatement):
        Statement.parse(data)


def test_statement__of_1500_bytes_is_written_and_no_longer_one() -> None:
    fitting = made(run=("a" * (1 + statement.MAX_BYTES - len(made(run=("a",)).encode())),))
    assert len(fitting.encode()) == statement.MAX_BYTES
    assert Statement.parse(fitting.encode()) == fitting
    request = signing.make_request(KEY, fitting)
    assert len(request) == signing.MAX_REQUEST_CHARACTERS
    assert signing.read_request(KEY, request) == fitting
    with pytest.raises(StatementTooLong):
        made(run=(fitting.run[0] + "a",)).encode()


def test_statement__spaces_push_nothing_off_the_screen() -> None:
    assert "  " not in made(run=("/bin/echo", " " * 100), notes=("a" + " " * 50 + "b",)).encode().decode()


@pytest.mark.parametrize(
    "changed",
    [
        {"run": ()}, {"time": -1}, {"time": 2**40}, {"kind": "a b"}, {"kind": "a" * 17}, {"nonce": "0" * 31},
        {"nonce": "A" * 32}, {"key": "0" * 15}, {"env": ("A",)}, {"host": "a\0b"}, {"host": "\ud800"}, {"notes": ("",)},
        {"notes": (" a",)},
    ],
)  # fmt: skip
def test_statement__refuses_what_no_host_has(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        made(**changed)


def test_statement__halves_of_pairs_that_are_one_character_are_that_character() -> None:
    assert facts(made(host="\udcc3\udca4")) == facts(made(host="ä"))


def test_shown__has_every_line_but_the_numbers_and_the_command_last() -> None:
    full = made(env=("A=b",), chroot="/srv", argv0="-sh", kind="shell", notes=("one", "two"))
    shown = statement.shown_lines(full)
    written = [tuple(line.split(" ", 1)) for line in full.encode().decode().splitlines()[1:-3]]
    assert sorted(shown) == sorted(written)
    assert [name for name, _ in shown] == [
        "env", "host", "user", "as", "in", "tty", "chroot", "run", "argv0", "kind", "note", "note",
    ]  # fmt: skip


def test_code__is_the_response_to_the_hash_of_the_statement() -> None:
    expected = model(ocra.SIGNING_SUITE, KEY, hashlib.sha256(TEXT).hexdigest(), {})
    assert signing.sign(KEY, made()) == expected
    assert len(expected) == signing.DIGITS


@pytest.mark.parametrize("form", ["{0}{1}", "{0} {1}", "  {0}  {1} "])
def test_code__signs_in_any_spacing(form: str) -> None:
    code = signing.sign(KEY, made())
    assert signing.is_signed(KEY, made(), form.format(code[:4], code[4:]))


@pytest.mark.parametrize("change", ["", " ", "{}0", "0{}", "{}\n", "{}" + " " * 64, "\u0661{}", "x"])
def test_code__in_another_form_signs_nothing(change: str) -> None:
    assert not signing.is_signed(KEY, made(), change.format(signing.sign(KEY, made())))


def test_code__of_another_statement_or_key_signs_nothing() -> None:
    code = signing.sign(KEY, made())
    assert not signing.is_signed(KEY, made(nonce="f" * 32), code)
    assert not signing.is_signed(KEY, made(run=("/bin/sh",)), code)
    assert not signing.is_signed(OTHER_KEY, made(), code)


def test_request__has_the_mac_in_front_of_the_statement() -> None:
    text = signing.make_request(KEY, made())
    assert text.startswith("stq1.")
    data = base64.urlsafe_b64decode(text[5:] + "=" * (-len(text[5:]) % 4))
    assert data[8:] == TEXT
    assert data[:8] == hmac.new(KEY, b"stq1." + TEXT, "sha256").digest()[:8]
    assert "=" not in text


@given(statements())
def test_request__is_read_with_its_key_only(each: Statement) -> None:
    text = signing.make_request(KEY, each)
    assert signing.request_key_id(text) == signing.key_id(KEY)
    assert facts(signing.read_request(KEY, text)) == facts(each)
    with pytest.raises(BadRequest):
        signing.read_request(OTHER_KEY, text)


@given(st.data())
def test_request__changed_anywhere_is_refused(data: st.DataObject) -> None:
    text = signing.make_request(KEY, made())
    place = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from(["", *"ABab01-_+/= \n.\u0661"]))
    changed = text[:place] + new + text[place + 1 :]
    assume(changed != text)
    with pytest.raises(BadRequest):
        signing.read_request(KEY, changed)


@pytest.mark.parametrize("text", ["", "stq1.", "stq2.AAAA", "stq1.A", "stq1." + "A" * 5000, "stq1.====", "\ud800"])
def test_request__that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        signing.read_request(KEY, text)
    with pytest.raises(BadRequest):
        signing.request_key_id(text)


def test_request__of_a_statement_for_another_key_is_neither_made_nor_read() -> None:
    stray = made(key="0" * 16)
    with pytest.raises(ValueError, match="another key"):
        signing.make_request(KEY, stray)
    data = hmac.new(KEY, b"stq1." + stray.encode(), "sha256").digest()[:8] + stray.encode()
    with pytest.raises(BadRequest, match="another key"):
        signing.read_request(KEY, "stq1." + base64.urlsafe_b64encode(data).decode().rstrip("="))


def test_signing__loads_nothing_slow() -> None:
    """The host's side waits for it before each command."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import pam_softtoken.otp.signing; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", script, str(TREE)]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert not loaded & {"re", "hashlib", "base64", "json", "typing", "dataclasses", "struct"}
