"""A laptop that listens: sudo asks it through the user's socket, and goes on with pasting if it does not answer."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from pam_softtoken.otp import ocra_uri
from tests.support.account import Person
from tests.support.device import PASSPHRASE, Device
from tests.support.installation import TREE
from tests.support.key_sshd import key_sshd
from tests.support.process import wait_until
from tests.support.signed_sudo import PLUGIN, STEP_S, Asking, Laptop, Listener, SignedSudo, run_directory
from tests.system.test_signed_sudo import NOT_SIGNED, RUN, refused

Listen = Callable[[Callable[[str], bytes | None]], Listener]
ASKED = 'Asked "softtoken sign --listen" on your laptop. Answer there.\n'
HASTY = f"""#!/usr/bin/python3 -I
import sys
sys.path.insert(0, "{TREE}")
from pam_softtoken.signing import approval
approval.LISTENER_PATIENCE_S = 2
from pam_softtoken.bridge.approver import main
main()
"""
"""An approver that waits for the laptop for two seconds."""


@pytest.fixture
def host(alices_sudo: SignedSudo) -> SignedSudo:
    return alices_sudo


@pytest.fixture
def listen(host: SignedSudo, alice: Person) -> Iterator[Listen]:
    made: list[Listener] = []

    def start(reply: Callable[[str], bytes | None]) -> Listener:
        made.append(Listener(host, alice, reply))
        return made[-1]

    yield start
    for each in made:
        each.close()


def hurry(host: SignedSudo) -> None:
    approver = host.mounts.directory / "plugins" / "hasty"
    approver.write_text(HASTY)
    approver.chmod(0o755)
    host.conf.write_text(f"Plugin softtoken_approval {PLUGIN} approver={approver}\n")


def test_laptop__that_signs_is_all_it_takes(host: SignedSudo, alice: Person, laptop: Laptop, listen: Listen) -> None:
    listening = listen(lambda request: f"{laptop.sign(request)}\n".encode())
    result = host.ask(alice, *RUN).end()
    assert result.ran
    assert result.text.startswith(ASKED)
    assert "stq1." not in result.text
    assert laptop.read(listening.requests[0]).run == ("/usr/bin/printf", *RUN[1:])


@pytest.mark.parametrize("answer", ["y", "n"])
def test_laptop__with_the_real_programs_signs_through_ssh_or_refuses(
    host: SignedSudo, alice: Person, laptop: Laptop, tmp_path: Path, answer: str
) -> None:
    """`softtoken sign --listen` on one side, sudo in a session of sshd on the other, and `ssh -R` between them."""
    device, here = Device(tmp_path / "data"), tmp_path / "sign"
    device.did("add", typed=ocra_uri.build(laptop.token, issuer="server", account=alice.name).encode())
    there = f"/run/user/{alice.uid}/softtoken-sign"
    run_directory(host, alice)
    keys = host.mounts.directory / "keys"
    keys.mkdir(mode=0o755)
    with device.start("sign", "--listen", here) as person:
        person.expect("Passphrase of the vault: ")
        person.type(PASSPHRASE)
        person.expect("Ctrl-C ends this.")
        with key_sshd(keys, around=host.mounts.command(), user=alice.name) as ssh:
            command = [*ssh[:-1], "-tt", "-R", f"{there}:{here}", ssh[-1], "sudo", *RUN]
            session = pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=STEP_S, dimensions=(24, 400))
            shown = person.expect("Sign it? [y/N] ")
            assert "run      /usr/bin/printf it%sran _" in shown
            assert (f"user     {alice.name}" in shown, "as       root" in shown) == (True, True)
            person.type(answer)
            asking = Asking(session)
            assert asking.text.startswith(ASKED)
            if answer == "y":
                assert asking.end().ran
            else:
                assert asking.text.startswith(f"{ASKED}No answer from there.\n")
                refused(asking.answer(""), NOT_SIGNED)
            person.expect("Signed." if answer == "y" else "Not signed.")


@pytest.mark.parametrize("reply", [b"no\n", b"", b"\n"])
def test_laptop__that_does_not_sign_leaves_pasting(
    host: SignedSudo, alice: Person, laptop: Laptop, listen: Listen, reply: bytes
) -> None:
    listen(lambda _: reply)
    asking = host.ask(alice, *RUN)
    assert asking.text.startswith(f"{ASKED}No answer from there.\nTo be signed")
    assert asking.answer(laptop.sign(asking.text)).ran


@pytest.mark.parametrize("reply", [b"12345678\n", b"x" * 100, b"1" * 100, b"\xff\x00\n", b"12345678", b"yes1\n"])
def test_laptop__that_answers_anything_else_is_a_no(
    host: SignedSudo, alice: Person, listen: Listen, reply: bytes
) -> None:
    listen(lambda _: reply)
    asking = host.ask(alice, *RUN)
    refused(asking.answer("") if asking.asks else asking.end(), NOT_SIGNED)


def test_laptop__that_keeps_silent_is_waited_for_a_while(
    host: SignedSudo, alice: Person, laptop: Laptop, listen: Listen
) -> None:
    hurry(host)
    listen(lambda _: None)
    asking = host.ask(alice, *RUN)
    assert asking.text.startswith(f"{ASKED}No answer from there.\n")
    assert asking.answer(laptop.sign(asking.text)).ran


def test_two_tokens__are_asked_for_in_turn(host: SignedSudo, alice: Person, laptop: Laptop, listen: Listen) -> None:
    other = Laptop("other")
    host.enrol(alice, other, laptop)

    def sign(request: str) -> bytes:
        try:
            return f"{laptop.sign(request)}\n".encode()
        except AssertionError:
            return b"no\n"

    listening = listen(sign)
    assert host.ask(alice, *RUN).end().ran
    assert len(listening.requests) == 2


def test_socket__that_nobody_listens_on_is_passed_over(
    host: SignedSudo, alice: Person, laptop: Laptop, listen: Listen
) -> None:
    listen(lambda _: None).close()
    asking = host.ask(alice, *RUN)
    assert asking.answer(laptop.sign(asking.text)).ran


def test_socket__is_opened_as_the_user(host: SignedSudo, alice: Person, laptop: Laptop, listen: Listen) -> None:
    """A link in the user's directory does not lead root to sockets that the user may not open."""
    listening = listen(lambda _: b"12345678\n")
    listening.path.chmod(0o600)
    os.chown(listening.path, 0, 0)
    asking = host.ask(alice, *RUN)
    assert listening.requests == []
    assert asking.answer(laptop.sign(asking.text)).ran


def test_sudo__that_is_killed_meanwhile_leaves_no_approver(host: SignedSudo, alice: Person, listen: Listen) -> None:
    listening = listen(lambda _: None)
    command = host.command(alice, *RUN)
    sudo = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: bool(listening.requests), "the request")
    assert host.approvers()
    sudo.kill()
    sudo.communicate()
    wait_until(lambda: not host.approvers(), "the approver to end")


def test_laptop__cannot_hold_up_sudo_by_a_full_queue(host: SignedSudo, alice: Person, laptop: Laptop) -> None:
    directory = host.mounts.path(f"/run/user/{alice.uid}")
    directory.mkdir(parents=True, mode=0o755)
    full = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    full.bind(str(directory / "softtoken-sign"))
    (directory / "softtoken-sign").chmod(0o777)
    full.listen(0)
    waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(str(directory / "softtoken-sign"))
    asking = host.ask(alice, *RUN)
    assert asking.answer(laptop.sign(asking.text)).ran
    for each in (full, *waiting):
        each.close()
