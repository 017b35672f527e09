"""Sign requests of a host at a terminal, and through a socket."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.device import signing_request
from pam_softtoken.device.entry import Entry
from pam_softtoken.otp import ocra, ocra_uri, signing
from pam_softtoken.otp.ocra import OCRAToken, Suite
from pam_softtoken.otp.token import Secret, encode_base32
from pam_softtoken.program_errors import Unreadable
from tests.support.device import PASSPHRASE, RFC_KEY, Device, Mistake, totp
from tests.support.enroller import Dialogue
from tests.support.key_sshd import key_sshd
from tests.support.process import wait_until
from tests.support.signing import KEY, made

QUESTION = "Sign it? [y/N] "
CODE = re.compile(r"^\d{4} \d{4}\r?$", re.MULTILINE)
OTHER_KEY = b"o" * 32


def signer(name: str = "server", key: bytes = KEY, *, suite: str = ocra.SIGNING_SUITE) -> Entry:
    return Entry(OCRAToken(name, Secret(key), suite=Suite.parse(suite), created=0), "server")


URI = ocra_uri.build(signer("laptop").token, issuer="server", account="alice")  # type: ignore[arg-type]


def fresh(*, age_s: int = 0, key: bytes = KEY, **changed: object) -> str:
    """Return a request of now, or of some time ago."""
    asked = made(time=int(time.time()) - age_s, key=signing.key_id(key), **changed)
    return signing.make_request(key, asked)


def code_for(request: str) -> str:
    return signing.sign(KEY, signing.read_request(KEY, request))


@contextlib.contextmanager
def at_prompt(device: Device, *words: str | Path, columns: int = 80) -> Iterator[Dialogue]:
    with device.start("sign", *words, columns=columns) as person:
        person.expect("Passphrase of the vault: ")
        person.type(PASSPHRASE)
        yield person


def refused(person: Dialogue) -> Mistake:
    """Check that the program ends with status 1, and return its reason."""
    assert person.finish() == 1, person.transcript
    return Mistake(person.transcript)


@contextlib.contextmanager
def listening(device: Device, path: Path) -> Iterator[Dialogue]:
    with at_prompt(device, "--listen", path) as person:
        person.expect("Ctrl-C ends this.")
        yield person


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(path))
    return client


def answer_of(client: socket.socket) -> bytes:
    with client, client.makefile("rb") as stream:
        return stream.read()


def test_add__takes_the_key_uri_of_a_token_that_signs(device: Device) -> None:
    device.did("add", typed=URI.encode() + b"\n")
    (entry,) = device.content()
    assert isinstance(entry.token, OCRAToken)
    assert (entry.name, entry.issuer, entry.token.secret.reveal()) == ("laptop", "server", KEY)
    assert entry.token.suite.text == ocra.SIGNING_SUITE
    again = device.refused("add", "--name", "b", typed=URI.encode())
    assert (again.error, again.hint) == ('that token is there already, as "laptop"', "softtoken sign uses it")


@pytest.mark.parametrize(
    "uri",
    [
        URI.replace("suite=", "suites="), URI.replace("QH64", "QH03"), URI.replace("QH64", "QN08"), URI + "&digits=6",
        URI.replace("server:", ""), URI.upper(), URI.replace("secret=G", "secret=g"), URI[:-1], URI + "\u00e4",
        URI.replace("otpauth://ocra", "otpauth://totp"), URI.replace("&issuer=server", ""),
        URI.replace("&name=laptop", ""), URI.replace("name=laptop", "name=a%0Ab"),
    ],
)  # fmt: skip
def test_add__refuses_any_other_spelling_or_suite_of_one_that_signs(device: Device, uri: str) -> None:
    device.refused("add", typed=uri.encode())
    assert not device.path.exists()


def test_uri__that_was_cut_off_anywhere_is_refused() -> None:
    for length in range(len(URI)):
        with pytest.raises(Unreadable):
            ocra_uri.parse(URI[:length], now=0)


def test_add__names_the_tokens_of_two_hosts_apart(device: Device) -> None:
    """Each has the name that its host shows, as long as it is free."""
    for host in ("server", "mail"):
        other = signer("laptop", host.encode().ljust(32, b"k")).token
        device.did("add", typed=ocra_uri.build(other, issuer=host, account="alice").encode())  # type: ignore[arg-type]
    assert [entry.name for entry in device.content()] == ["laptop", "mail laptop"]


def test_uri__is_read_as_it_was_written_for_any_name() -> None:
    token = OCRAToken("laptop", Secret(KEY), suite=Suite.parse(ocra.SIGNING_SUITE), created=5)
    for issuer, account in (("host", "alice"), ("", ""), ("a b&c=%", "\u00e4?/#\udcff")):
        read, *names = ocra_uri.parse(ocra_uri.build(token, issuer=issuer, account=account), now=5)
        assert names == [issuer, account]
        assert (read.fingerprint(), read.suite, read.created) == (token.fingerprint(), token.suite, 5)
    with pytest.raises(Unreadable):
        ocra_uri.parse("otpauth://ocra/" + "a" * 5000, now=0)


def test_list__shows_a_token_that_signs_without_a_code(device: Device) -> None:
    device.hold(signer(), totp("phone"))
    assert [line.split()[:3] for line in device.did("list").splitlines()[1:]] == [
        ["server", "server", "ocra"], ["phone", "-", "totp"],
    ]  # fmt: skip
    listed = json.loads(device.did("list", "--json"))
    assert listed[0] == {"name": "server", "issuer": "server", "type": "ocra", "suite": ocra.SIGNING_SUITE}
    device.did("rename", "server", "web")
    device.did("remove", "web", "--yes")
    assert [entry.name for entry in device.content()] == ["phone"]


def test_code__has_none_for_a_token_that_signs(device: Device) -> None:
    device.hold(signer())
    for words in (
        ("code",),
        ("code", "server"),
        ("verify", "server"),
        ("export", "--yes"),
        ("export", "server", "--yes"),
    ):
        assert "sign" in device.refused(*words).error
    device.did("add", typed=f"otpauth://totp/x?secret={'A' * 32}".encode())
    assert re.fullmatch(r"\d{6}\n", device.did("code"))


@pytest.mark.parametrize("form", ["uri", "aegis"])
def test_export__leaves_a_token_that_signs_out_and_says_so(device: Device, form: str) -> None:
    device.hold(signer(), totp("phone"))
    done = device.run("export", "--format", form, "--yes")
    assert done.status == 0
    assert "phone" in done.stdout
    assert "server" not in done.stdout
    assert encode_base32(KEY) not in done.stdout
    assert 'Left out: "server"' in done.stderr


def test_import__takes_no_token_that_signs(device: Device) -> None:
    done = device.run("import", "-", typed=URI.encode())
    assert done.status == 1
    assert "a token of type ocra signs requests" in done.stderr
    assert not device.path.exists()


def test_table__shows_no_token_that_signs(device: Device) -> None:
    device.hold(signer("webserver"), totp("phone"))
    with device.start("code") as person:
        person.expect("Passphrase of the vault: ")
        person.type(PASSPHRASE)
        person.expect("phone")
        person.press_control("C")
        assert person.finish() == 0
        assert "webserver" not in person.transcript


def test_sign__shows_every_line_and_the_code_after_a_yes(device: Device) -> None:
    device.hold(totp("phone", RFC_KEY), signer("other", OTHER_KEY), signer())
    request = fresh(
        env=("LD_PRELOAD=/tmp/x.so",), chroot="/srv", argv0="-sh", kind="shell", notes=("all runs as root",)
    )
    with at_prompt(device) as person:
        person.expect("Request: ")
        person.type(request)
        shown = person.expect(QUESTION)
        for line in (
            "token    server", "env      LD_PRELOAD=/tmp/x.so", "host     server", "user     alice", "as       root",
            "in       /home/alice", "tty      pts/3", "chroot   /srv", "run      /usr/bin/systemctl restart nginx",
            "argv0    -sh", "kind     shell", "note     all runs as root",
        ):  # fmt: skip
            assert f"  {line}\r\n" in shown
        assert not CODE.search(person.transcript)
        person.type("y")
        assert person.finish() == 0
    (code,) = CODE.findall(person.transcript)
    assert code.strip().replace(" ", "") == code_for(request)


@pytest.mark.parametrize("answer", ["", "n", "yy", "Y e s", "1"])
def test_sign__anything_but_a_yes_signs_nothing(device: Device, answer: str) -> None:
    device.hold(signer())
    with at_prompt(device) as person:
        person.expect("Request: ")
        person.type(fresh())
        person.expect(QUESTION)
        person.type(answer)
        assert refused(person).error == "not signed"
        assert not CODE.search(person.transcript)


def test_sign__what_was_pasted_behind_the_request_is_no_answer(device: Device) -> None:
    device.hold(signer())
    with at_prompt(device) as person:
        person.expect("Request: ")
        person.type_bytes(fresh().encode() + b"\ry\ry")
        person.expect(QUESTION)
        person.type("")
        assert refused(person).error == "not signed"


def test_sign__ctrl_c_signs_nothing(device: Device) -> None:
    device.hold(signer())
    with at_prompt(device) as person:
        person.expect("Request: ")
        person.type(fresh())
        person.expect(QUESTION)
        person.press_control("C")
        assert refused(person).error == "interrupted; nothing was changed"


BAD_REQUESTS: dict[str, Callable[[], str]] = {
    "no request": lambda: "hello",
    "of an unknown key": lambda: fresh(key=b"x" * 32, run=("/bin/secret",)),
    "with another MAC": lambda: "stq1.AAAAAAAAAA" + fresh()[15:],
    "cut off": lambda: fresh()[:-7],
    "too long": lambda: signing.PREFIX + "A" * signing.MAX_REQUEST_CHARACTERS,
    "too old": lambda: fresh(age_s=signing.MAX_AGE_S + 5),
    "from the future": lambda: fresh(age_s=-signing_request.MAX_AHEAD_S - 60),
    "for a terminal": lambda: "stq1.\x1b[2J",
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_sign__shows_nothing_of_a_request_that_it_refuses(device: Device, kind: str) -> None:
    device.hold(signer())
    with at_prompt(device) as person:
        person.expect("Request: ")
        person.type(BAD_REQUESTS[kind]())
        assert refused(person).error.startswith("not signed: ")
        for word in ("systemctl", "secret", "/home/alice", "Sign it", "\x1b[2J"):
            assert word not in person.transcript


def test_sign__control_characters_of_a_command_do_not_reach_the_terminal(device: Device) -> None:
    device.hold(signer())
    with at_prompt(device) as person:
        person.expect("Request: ")
        person.type(fresh(run=("/bin/echo", "\x1b]0;x\x07\r\nas nobody", "\u202e\u00e4")))
        shown = person.expect(QUESTION)
        assert 'run      /bin/echo "\\x1b]0;x\\x07\\x0d\\x0aas nobody" "\\xe2\\x80\\xae\\xc3\\xa4"' in shown
        assert "\x1b" not in shown


def test_sign__needs_a_terminal(device: Device) -> None:
    device.hold(signer())
    mistake = device.refused("sign", typed=fresh().encode() + b"\ny\n")
    assert mistake.error == "there is no terminal to show a request on; nothing was signed"


def test_sign__without_a_token_that_signs_names_what_helps(device: Device) -> None:
    device.hold(totp("phone"), signer("other kind", suite="OCRA-1:HOTP-SHA1-6:QN08"))
    with at_prompt(device) as person:
        assert refused(person).error == "no token in the vault signs requests"


def test_wrapped__no_part_of_a_value_looks_like_another_line() -> None:
    value = "a" * 29 + "as       nobody  "
    lines = signing_request.wrapped("run", value, 40)
    assert lines[0].startswith("  run      ")
    assert all(line.startswith("         + ") for line in lines[1:])
    assert "".join(line[11:] for line in lines) == value
    assert all(len(line) < 40 for line in lines)


def test_listen__answers_a_request_with_the_code(device: Device, tmp_path: Path) -> None:
    device.hold(signer())
    path = tmp_path / "sign"
    with listening(device, path) as person:
        assert path.stat().st_mode & 0o777 == 0o600
        for answer, told in (("y", "Signed."), ("n", "Not signed."), ("y", "Signed.")):
            request = fresh(nonce=os.urandom(16).hex())
            client = connect(path)
            client.sendall(request.encode() + b"\n")
            person.expect("/usr/bin/systemctl restart nginx")
            person.expect(QUESTION)
            person.type(answer)
            assert answer_of(client) == (f"{code_for(request)}\n" if answer == "y" else "no\n").encode()
            person.expect(told)
        person.press_control("C")
        assert person.finish() == 0
        assert "No longer listening." in person.transcript
    assert not path.exists()


def test_listen__survives_garbage_and_clients_that_hang_or_leave(device: Device, tmp_path: Path) -> None:
    device.hold(signer())
    path = tmp_path / "sign"
    with listening(device, path) as person:
        for data in (b"\n", b"hello\n", b"x" * 5000, fresh().encode() + b"\nmore\n", b"\xff\x00\n", b"stq1.\x1b[2J\n"):
            client = connect(path)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
            with contextlib.suppress(ConnectionResetError):
                assert answer_of(client) in (b"no\n", b"")
            person.expect("Refused: ")
        connect(path).close()
        person.expect("Refused: a client sent no request.")
        with connect(path) as hanging:
            hanging.sendall(b"stq1.")
            request = fresh()
            waiting = connect(path)
            waiting.sendall(request.encode() + b"\n")
            person.expect(QUESTION)
            assert hanging.recv(9) == b"no\n"
        waiting.close()
        person.type("y")
        person.expect("Signed")
        assert "\x1b[2J" not in person.transcript
        person.press_control("C")
        assert person.finish() == 0


def test_listen__asks_about_one_request_at_a_time(device: Device, tmp_path: Path) -> None:
    device.hold(signer())
    path = tmp_path / "sign"
    with listening(device, path) as person:
        requests = [fresh(run=(f"/bin/number{number}",)) for number in range(2)]
        clients = [connect(path) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request.encode() + b"\n")
        for number, client in enumerate(clients):
            person.expect(f"/bin/number{number}")
            assert f"/bin/number{1 - number}" not in person.expect(QUESTION)
            person.type("y")
            assert answer_of(client).decode().strip() == code_for(requests[number])
        person.press_control("C")
        person.finish()


def test_listen__ctrl_c_at_the_question_answers_no(device: Device, tmp_path: Path) -> None:
    device.hold(signer())
    path = tmp_path / "sign"
    with listening(device, path) as person:
        client = connect(path)
        client.sendall(fresh().encode() + b"\n")
        person.expect(QUESTION)
        person.press_control("C")
        assert answer_of(client) == b"no\n"
        assert person.finish() == 0
    assert not path.exists()


def test_listen__replaces_a_left_over_socket_and_nothing_else(device: Device, tmp_path: Path) -> None:
    device.hold(signer())
    path = tmp_path / "sign"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with listening(device, path), at_prompt(device, "--listen", path) as second:
        assert refused(second).error == f'another program listens on "{path}"'
    path.unlink()
    path.write_text("kept")
    with at_prompt(device, "--listen", path) as person:
        assert refused(person).error == f'"{path}" exists, and is no socket of yours'
    assert path.read_text() == "kept"


def test_listen__refuses_a_directory_that_others_can_change(device: Device, tmp_path: Path) -> None:
    device.hold(signer())
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with at_prompt(device, "--listen", shared / "sign") as person:
        assert refused(person).error.startswith("other users can change the directory")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for an sshd")
def test_listen__is_reached_through_a_socket_that_ssh_forwards(device: Device, tmp_path: Path) -> None:
    device.hold(signer())
    here, there = tmp_path / "sign", tmp_path / "forwarded"
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with listening(device, here) as person, key_sshd(tmp_path) as ssh:
        command = [*ssh[:-1], "-N", "-R", f"{there}:{here}", ssh[-1]]
        forwarding = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: there.exists() or forwarding.poll() is not None, "ssh to forward")
            request = fresh()
            client = connect(there)
            client.sendall(request.encode() + b"\n")
            person.expect(QUESTION)
            person.type("y")
            assert answer_of(client).decode() == f"{code_for(request)}\n"
        finally:
            forwarding.terminate()
            forwarding.wait(60)
        person.press_control("C")
        assert person.finish() == 0


@pytest.mark.parametrize("words", [72, 1])
def test_request__that_is_higher_than_the_terminal_says_so(device: Device, words: int) -> None:
    """What comes first is the program, and those who ask choose how long the rest is."""
    device.did("add", typed=URI.encode() + b"\n")
    request = fresh(run=("/usr/bin/env", *["harmless=harmless"] * words))
    with at_prompt(device, columns=40) as person:
        person.expect("Request: ")
        person.type(request)
        person.expect(QUESTION)
        assert ("more than the terminal shows. Scroll up" in person.transcript) == (words > 1)
        person.type("n")
        refused(person)
