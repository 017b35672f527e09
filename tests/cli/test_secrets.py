"""Check that no key, code or recovery code appears in other processes, arguments, environments or files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.account import Person
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, Dialogue, Enroller, recovery_codes_in
from tests.support.installation import Installation


def seen_by_others() -> Iterator[tuple[str, bytes]]:
    """Return everything that ps can show: arguments and environment of every process."""
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ", "comm"):
            try:
                yield f"{process}/{name}", (process / name).read_bytes()
            except OSError:
                continue  # it has ended meanwhile, or is the kernel's


def secrets_of(dialogue: Dialogue) -> list[bytes]:
    """Return every secret that other users must not see."""
    phone = dialogue.phone()
    codes = recovery_codes_in(dialogue.transcript)
    return [str(secret).encode() for secret in (phone.record["key"], phone.totp(), *codes)]


def test_enroll__no_secret_in_arguments_or_environment_of_any_process(
    enroller: Enroller, alice: Person, installed: Installation
) -> None:
    (alice.home / "key.txt").write_text("MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U\n")
    with enroller.start("--period=300", "--key-file=key.txt", person=alice, cwd=alice.home) as dialogue:
        for prompt in (CODE_PROMPT, ENTER_PROMPT):
            dialogue.expect(prompt)
            secrets = secrets_of(dialogue)
            leaks = [name for name, data in seen_by_others() if any(secret in data for secret in secrets)]
            assert leaks == []
            dialogue.type(dialogue.phone().totp() if prompt == CODE_PROMPT else "")
        assert dialogue.finish() == 0


def test_enroll__starts_no_other_program(enroller: Enroller, alice: Person, outside: Path) -> None:
    trace = outside / "trace"
    watched = enroller.after("strace", "--follow-forks", "-o", trace, "-e", "trace=execve,fork,vfork,clone,clone3")
    assert watched.run("--no-confirm", "--recovery-codes=1", "--user", alice.name).status == 0
    calls = re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE)
    assert calls == ["execve"], "its own start only"


def test_enroll__writes_nothing_but_the_two_files(enroller: Enroller, alice: Person, outside: Path) -> None:
    trace = outside / "trace"
    watched = enroller.after(
        "strace", "--follow-forks", "--decode-fds=path", "-o", trace, "-e", "trace=openat,open,creat"
    )
    assert watched.run("--no-confirm", "--recovery-codes=1", "--user", alice.name).status == 0
    writing = [line for line in trace.read_text().splitlines() if re.search(r"O_(WRONLY|RDWR|CREAT)", line)]
    below = f"<{alice.store}>"
    assert [line for line in writing if below not in line] == []
    assert {name for line in writing for name in re.findall(r'"\.?(\w+)', line)} == {"state", "tokens"}


def test_enroll__no_file_holds_the_key_before_it_is_confirmed(enroller: Enroller, alice: Person) -> None:
    """A disk can keep whatever was written to it, even after a file is removed."""
    trace = alice.home / "trace"
    watched = enroller.after("strace", "--follow-forks", "-s", "65536", "-o", trace, "-e", "trace=pwrite64")
    with watched.start("--period=300", "--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        key = str(dialogue.phone().record["key"])
        before = trace.read_text()
        dialogue.confirm_from_here()
    assert "pwrite64(" in before, "the room is tried before"
    assert key not in before
    assert key in trace.read_text(), "and the trace shows what is written"


def test_enroll__killed_while_it_tries_the_room_leaves_no_key(enroller: Enroller, alice: Person) -> None:
    key = "MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U"
    (alice.home / "key.txt").write_text(f"{key}\n")
    kill = ("strace", "-o", "/dev/null", "-e", "trace=unlinkat", "-e", "inject=unlinkat:signal=KILL:when=1")
    assert enroller.after(*kill).run("--no-confirm", "--key-file=key.txt", person=alice, cwd=alice.home).status != 0
    left = [path.read_bytes() for path in alice.store.iterdir() if path.name.startswith(".tokens.")]
    assert [len(data) > len(key) for data in left] == [True]
    assert key.encode() not in left[0]


def test_enroll__sends_nothing_to_the_log_or_the_network(enroller: Enroller, alice: Person, outside: Path) -> None:
    trace = outside / "trace"
    watched = enroller.after("strace", "--follow-forks", "-o", trace, "-e", "trace=%network")
    assert watched.run("--no-confirm", "--recovery-codes=1", "--user", alice.name).status == 0
    peers = set(re.findall(r'sun_path="([^"]*)"', trace.read_text()))
    # The C library asks the name service cache who the user is.
    assert peers <= {"/var/run/nscd/socket"}
    assert not re.search(r"AF_INET6?|sendto\(|sendmsg\(", trace.read_text())


def test_enroll__recovery_codes_are_not_in_the_files(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--period=300", "--recovery-codes=3", person=alice) as dialogue:
        phone = dialogue.confirm()
    kept = b"".join(path.read_bytes() for path in alice.store.iterdir()).upper().replace(b"-", b"")
    assert [code for code in phone.recovery_codes if code.replace("-", "").encode() in kept] == []
