"""Run `softtoken-enroll` without a user at a terminal: from scripts, in pipes, with outputs that fail."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import ENVIRONMENT, TIMEOUT_S, Enroller, Mistake, identity, recovery_codes_in, uri_in
from tests.support.installation import Installation
from tests.support.listing import listing

FIELDS = ["name", "type", "algorithm", "digits", "period", "counter", "key", "uri", "recovery_codes"]
SCRIPT = ("--no-confirm", "--json")
QUICK = (*SCRIPT, "--recovery-codes=0")


def run_in_shell(enroller: Enroller, person: Person, line: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program from a shell, as `"$@"`, with the redirections of the line."""
    command = ["bash", "-c", line, "bash", *map(str, enroller.program), *options]
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        command, check=False, capture_output=True, env=ENVIRONMENT, cwd="/", timeout=TIMEOUT_S, **identity(person)
    )  # type: ignore[call-overload]
    return done


@pytest.mark.parametrize("redirection", ["</dev/null", "< <(echo 123456)", "<&-"], ids=["null", "pipe", "closed"])
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["plain", "json"])
def test_enroll__without_a_terminal_it_asks_nothing_and_fails(
    enroller: Enroller, alice: Person, redirection: str, options: tuple[str, ...]
) -> None:
    before = listing(alice.home)
    done = run_in_shell(enroller, alice, f'"$@" {redirection}', *options)
    mistake = Mistake(done.stderr.decode())
    assert (done.returncode, done.stdout, mistake.before) == (1, b"", "")
    assert mistake.error == "there is no terminal to ask for a code on"
    assert "--no-confirm" in mistake.hint
    assert listing(alice.home) == before


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-"], ids=["null", "closed"])
def test_enroll__no_confirm_needs_no_input(enroller: Enroller, alice: Person, redirection: str) -> None:
    done = run_in_shell(enroller, alice, f'"$@" {redirection}', *QUICK)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["key"]


@pytest.mark.parametrize("kind", ["totp", "hotp"])
def test_json__is_one_object_on_stdout_and_nothing_else(
    enroller: Enroller, alice: Person, service: Service, kind: str
) -> None:
    done = enroller.run(*SCRIPT, f"--type={kind}", person=alice)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")
    assert done.stdout.count("\n") == 1
    record = json.loads(done.stdout)
    assert list(record) == FIELDS
    assert (record["name"], record["type"], record["algorithm"], record["digits"]) == ("phone", kind, "SHA1", 6)
    assert (record["period"], record["counter"]) == ((30, None) if kind == "totp" else (None, 0))
    assert len(record["recovery_codes"]) == 10
    phone = Phone(record)
    code = phone.totp() if kind == "totp" else phone.hotp()
    assert service.log_in(alice, code).result == PAM_SUCCESS
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, record["recovery_codes"][9]).result == PAM_SUCCESS


def test_enroll__no_confirm_without_json_shows_everything_at_once(
    enroller: Enroller, alice: Person, service: Service
) -> None:
    done = enroller.run("--no-confirm", "--period=300", person=alice)
    assert done.status == 0
    assert done.stderr.startswith(f"Done. {alice.name} is enrolled")
    assert len(recovery_codes_in(done.stdout)) == 10
    assert "Code that the app shows" not in done.stdout + done.stderr
    record = {**json.loads((alice.store / "tokens").read_bytes())["tokens"][0], "recovery_codes": [], "counter": None}
    assert str(record["key"]) in uri_in(done.stdout)
    assert service.log_in(alice, Phone(record).totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("count", [0, 1, 24])
def test_json__has_as_many_recovery_codes_as_were_asked_for(enroller: Enroller, alice: Person, count: int) -> None:
    record = json.loads(enroller.run(*SCRIPT, f"--recovery-codes={count}", person=alice).stdout)
    assert len(set(record["recovery_codes"])) == count


def test_json__mistakes_leave_stdout_empty(enroller: Enroller, alice: Person) -> None:
    assert enroller.run(*QUICK, person=alice).status == 0
    enroller.run(*QUICK, person=alice).refused()
    enroller.run(*SCRIPT, "--digits=5", person=alice).refused(2)


# A written token is useless if the result never arrives: nobody has the key.


@pytest.mark.parametrize("options", [QUICK, ("--no-confirm", "--recovery-codes=1")], ids=["json", "plain"])
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "| head -c 0"], ids=["full", "closed", "broken pipe"])
def test_enroll__result_that_cannot_be_written_is_an_error(
    enroller: Enroller, alice: Person, redirection: str, options: tuple[str, ...]
) -> None:
    done = run_in_shell(enroller, alice, f'"$@" {redirection}; exit "${{PIPESTATUS[0]}}"', *options)
    mistake = Mistake(done.stderr.decode())
    assert done.returncode == 1
    assert mistake.before == ""
    assert str(alice.store) not in mistake.error, "it is the output that cannot be written, not the store"
    says_unchanged = "nothing was changed" in mistake.error
    assert says_unchanged == (not (alice.store / "tokens").exists())


def test_enroll__result_that_cannot_be_written_keeps_the_earlier_token_or_says_so(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    done = run_in_shell(enroller, alice, '"$@" >/dev/full', *QUICK, "--force")
    mistake = Mistake(done.stderr.decode())
    assert done.returncode == 1
    works = service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    assert works == ("nothing was changed" in mistake.error)


# Keys from elsewhere.

KEY = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # "12345678901234567890", the secret of RFC 4226, appendix D, in Base32
RFC4226_CODES = ["755224", "287082", "359152"]  # RFC 4226, appendix D, counts 0 to 2
GOOD_KEYS = {
    "as it is": KEY,
    "with a newline": KEY + "\n",
    "lower case": KEY.lower(),
    "mixed case": KEY[:9] + KEY[9:].lower(),
    "in groups of four": " ".join(KEY[place : place + 4] for place in range(0, len(KEY), 4)),
    "with hyphens": "-".join(KEY[place : place + 4] for place in range(0, len(KEY), 4)),
    "in lines": "\r\n".join(KEY[place : place + 8] for place in range(0, len(KEY), 8)) + "\r\n",
    "with padding": KEY + "======",
    "among spaces": f"  \t{KEY}  \n\n",
}
BAD_KEYS: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\n",
    "too short": b"GEZDGNBVGY3TQOJQGEZDGNBV\n",  # 15 bytes
    "not Base32": b"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQ018\n",
    "hexadecimal": b"3132333435363738393031323334353637383930\n",
    "a Key URI": b"otpauth://totp/vm:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n",
    "bits that nothing can mean": b"GEZDGNBVGY3TQOJQGEZDGNBVGY3\n",
    "binary": bytes(range(256)),
    "NUL bytes": b"\0" * 32,
    "UTF-16": KEY.encode("utf-16"),
    "other letters": ("\u0413\u0415" * 16).encode(),  # Cyrillic
    "letters that become others in upper case": ("\u0131" * 32).encode(),  # upper-case it, and it is an I
    "padding inside": b"GEZDGNBVGY3TQOJQ====GEZDGNBVGY3TQOJQ\n",
    "too long": b"GEZDGNBV" * 26,  # 130 bytes
    "huge": b"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" * 100_000,
    "more after a gap": KEY.encode() + b" " * 2000 + b"GEZDGNBVGY3TQOJQ",
    "nonsense after a gap": KEY.encode() + b"\n" * 2000 + b"!!",
}


def key_file(person: Person, content: bytes) -> Path:
    """Write a key file in the user's home, owned by the user, and return its path."""
    path = person.home / "key.txt"
    path.write_bytes(content)
    os.chown(path, person.uid, person.gid)
    return path


@pytest.mark.parametrize("spelling", GOOD_KEYS)
def test_key_file__every_usual_spelling_is_read(enroller: Enroller, alice: Person, spelling: str) -> None:
    content = GOOD_KEYS[spelling].encode()
    options = (*SCRIPT, "--type=hotp", "--recovery-codes=0", "--force")
    from_file = enroller.run(*options, "--key-file", key_file(alice, content), person=alice)
    from_stdin = enroller.run(*options, "--key-file", "-", person=alice, typed=content)
    for done in (from_file, from_stdin):
        assert (done.status, done.stderr) == (0, "")
        assert json.loads(done.stdout)["key"] == KEY


def test_key_file__published_codes_log_in(enroller: Enroller, alice: Person, service: Service) -> None:
    assert enroller.run(*QUICK, "--type=hotp", "--key-file=-", person=alice, typed=KEY.encode()).status == 0
    for code in RFC4226_CODES:
        assert service.log_in(alice, code).result == PAM_SUCCESS


@pytest.mark.parametrize("mistake", BAD_KEYS)
def test_key_file__unusable_key_is_refused_and_never_repeated(enroller: Enroller, alice: Person, mistake: str) -> None:
    content = BAD_KEYS[mistake]
    path = key_file(alice, content)
    before = listing(alice.home)
    from_file = enroller.run(*QUICK, "--key-file", path, person=alice)
    from_stdin = enroller.run(*QUICK, "--key-file", "-", person=alice, typed=content)
    pieces = {content[place : place + 6].decode("latin-1") for place in range(min(len(content), 512) - 5)}
    for done, source in ((from_file, path), (from_stdin, "-")):
        assert f'"{source}"' in done.refused().error
        assert [piece for piece in pieces if piece.strip() and piece in done.stderr] == []
    assert listing(alice.home) == before


@pytest.mark.parametrize("mistake", ["binary", "UTF-16", "other letters"])
def test_key_file__unusable_key_is_refused_in_other_locales(
    enroller: Enroller, alice: Person, locales: dict[str, dict[str, str]], mistake: str
) -> None:
    for environment in (*locales.values(), {**ENVIRONMENT, "LC_ALL": "C"}):
        options = (*SCRIPT, "--key-file=-")
        enroller.run(*options, person=alice, typed=BAD_KEYS[mistake], environment=environment).refused()


@pytest.mark.parametrize("path", ["/nonexistent/key", ".", "", "key.txt/below"])
def test_key_file__that_cannot_be_read_is_named(enroller: Enroller, alice: Person, path: str) -> None:
    key_file(alice, KEY.encode())
    before = listing(alice.home)
    done = enroller.run(*SCRIPT, f"--key-file={path}", person=alice, cwd=alice.home)
    assert f'"{path}"' in done.refused().error
    assert listing(alice.home) == before


def test_key_file__of_another_user_is_not_read(enroller: Enroller, alice: Person, outside: Path) -> None:
    path = outside / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    done = enroller.run(*SCRIPT, f"--key-file={path}", person=alice)
    assert "Permission denied" in done.refused().error


def test_key_file__closed_stdin_is_an_error(enroller: Enroller, alice: Person) -> None:
    done = run_in_shell(enroller, alice, '"$@" <&-', *SCRIPT, "--key-file=-")
    Mistake(done.stderr.decode())
    assert done.returncode == 1
    assert not alice.store.exists()


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_enroll__new_key_is_as_long_as_the_mac(enroller: Enroller, alice: Person, algorithm: str) -> None:
    # RFC 6238, section 5.1: "Keys SHOULD be of the length of the HMAC output". Base32 has 5 bits in a character.
    record = json.loads(enroller.run(*QUICK, f"--algorithm={algorithm}", person=alice).stdout)
    assert len(record["key"]) * 5 // 8 == {"SHA1": 20, "SHA256": 32, "SHA512": 64}[algorithm]
