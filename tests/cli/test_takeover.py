"""`softtoken-enroll --import`: the old phone still works, and nothing that was used is new again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import ENTER_PROMPT, TOKEN_PROMPT, Enroller
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.pam_scene import steady_step
from tests.support.peers import KEY_HEX, Google, Oath, Stack, hotp, totp

OTHER_HEX = "3132333435363738393031323334353637383930313233343536373839303132"
TAKE = "--import"


@pytest.fixture
def users(outside: Path) -> Path:
    """A users file of pam_oath, empty as yet."""
    path = outside / "users.oath"
    path.touch(mode=0o600)
    return path


def _of_user(person: Person, file: Path) -> Path:
    """Copy a file to ~/.google_authenticator of a user, owned by that user, and return the path."""
    path = person.home / ".google_authenticator"
    path.write_bytes(file.read_bytes())
    os.chown(path, person.uid, person.gid)
    path.chmod(0o400)
    return path


def test_google__account_moves_over_with_the_old_phone_and_the_printed_codes(
    enroller: Enroller, alice: Person, outside: Path, service: Service, make_service: Stack
) -> None:
    google = Google(outside / "file", make_service, "-t", "-d", "-u", "-w3", "-e3")
    step = steady_step(30)
    used, spent = totp(google.key_hex, step + 1), google.scratch_codes[0]
    for code in (used, spent):
        assert google.log_in(code) == PAM_SUCCESS
    done = enroller.run(TAKE, _of_user(alice, google.path), person=alice)
    assert (done.status, done.stdout) == (0, f'{alice.name}: "phone", TOTP, SHA1, 6 digits, 30 s\n')
    assert "2 unspent scratch codes become recovery codes" in done.stderr
    assert "The code that the app shows now counts as used; the next one logs in." in done.stderr
    for code in (used, spent, totp(google.key_hex, step), "00000000"):
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    for code in google.scratch_codes[1:]:
        assert service.log_in(alice, code).result == PAM_SUCCESS
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    # The very next code of the old phone, two steps after the used one at most.
    assert service.log_in(alice, totp(google.key_hex, step + 2)).result in (PAM_SUCCESS, PAM_AUTH_ERR)


def test_google__hotp_goes_on_where_it_was(
    enroller: Enroller, alice: Person, outside: Path, service: Service, make_service: Stack
) -> None:
    google = Google(outside / "file", make_service, "-c", "-u", "-w5", "-e0")
    assert google.log_in(hotp(google.key_hex, 1)) == PAM_SUCCESS
    assert google.log_in(hotp(google.key_hex, 4)) == PAM_SUCCESS
    done = enroller.run(TAKE, _of_user(alice, google.path), "--no-confirm", "--recovery-codes=2", person=alice)
    assert done.status == 0
    for counter, result in ((4, PAM_AUTH_ERR), (2, PAM_AUTH_ERR), (6, PAM_SUCCESS), (5, PAM_AUTH_ERR)):
        assert service.log_in(alice, hotp(google.key_hex, counter)).result == result


def test_google__learned_skew_goes_on(
    enroller: Enroller, alice: Person, outside: Path, service: Service, make_service: Stack
) -> None:
    google = Google(outside / "file", make_service, "-t", "-d", "-u", "-W", "-e0")
    step = steady_step(30)
    # Two codes that were off by as much, at other times; the third one makes the module believe it.
    google.insert(f"RESETTING_TIME_SKEW {step - 3}+20 {step - 1}+20")
    assert google.log_in(totp(google.key_hex, step + 20)) == PAM_SUCCESS
    done = enroller.run(TAKE, _of_user(alice, google.path), "--no-confirm", "--recovery-codes=0", person=alice)
    assert done.status == 0
    for code, result in ((step, PAM_AUTH_ERR), (step + 20, PAM_AUTH_ERR), (step + 21, PAM_SUCCESS)):
        assert service.log_in(alice, totp(google.key_hex, code)).result == result


def test_google__skew_that_nobody_could_follow_is_refused(
    enroller: Enroller, alice: Person, outside: Path, make_service: Stack
) -> None:
    """Its used codes lie hours ahead: until then, no code of a right clock would be accepted."""
    google = Google(outside / "file", make_service, "-t", "-d", "-u", "-W", "-e0")
    google.insert("TIME_SKEW 1400")
    refused = enroller.run(TAKE, _of_user(alice, google.path), "--no-confirm", person=alice).refused()
    assert "the token's clock is 1400 time steps off, and at most 40 can be followed" in refused.error
    assert not alice.store.exists()


def test_google__without_scratch_codes_new_recovery_codes_are_shown_once(
    enroller: Enroller, alice: Person, outside: Path, service: Service, make_service: Stack
) -> None:
    google = Google(outside / "file", make_service, "-c", "-u", "-w5", "-e0")
    with enroller.start(TAKE, str(_of_user(alice, google.path)), person=alice) as dialogue:
        dialogue.expect(ENTER_PROMPT)
        dialogue.type("")
        assert dialogue.finish() == 0
        assert "Recovery codes" in dialogue.transcript
    assert service.log_in(alice, hotp(google.key_hex, 1)).result == PAM_SUCCESS


def test_dry_run__shows_the_result_and_changes_nothing(
    enroller: Enroller, alice: Person, outside: Path, make_service: Stack
) -> None:
    file = _of_user(alice, Google(outside / "file", make_service, "-t", "-d", "-u", "-W").path)
    before = listing(alice.home)
    done = enroller.run(TAKE, file, "--dry-run", person=alice)
    assert (done.status, done.stdout) == (0, f'{alice.name}: "phone", TOTP, SHA1, 6 digits, 30 s\n')
    assert done.stderr.endswith("Nothing was changed.\n")
    assert listing(alice.home) == before


def test_oath__many_users_are_taken_over_by_root(
    enroller: Enroller, alice: Person, make_person: object, users: Path, service: Service
) -> None:
    bob = make_person()  # type: ignore[operator]
    users.write_text(f"# of this host\nHOTP/E/6 {alice.name} - {KEY_HEX} 4\nHOTP {bob.name} 4711 {OTHER_HEX}\n")
    assert enroller.run(TAKE, users, "--dry-run").stdout.splitlines() == [
        f'{alice.name}: "phone", HOTP, SHA1, 6 digits, counting',
        f'{bob.name}: "phone", HOTP, SHA1, 6 digits, counting',
    ]
    assert not alice.store.exists()
    done = enroller.run(TAKE, users)
    assert (done.status, done.stderr.splitlines()[-1]) == (0, "Done. 2 users are enrolled.")
    assert "4711" not in done.stdout + done.stderr
    assert alice.store.stat().st_uid == alice.uid
    assert service.log_in(alice, hotp(KEY_HEX, 3)).result == PAM_AUTH_ERR
    assert service.log_in(alice, hotp(KEY_HEX, 4)).result == PAM_SUCCESS
    assert service.log_in(bob, hotp(OTHER_HEX, 0)).result == PAM_AUTH_ERR
    assert service.log_in(bob, "4711" + hotp(OTHER_HEX, 0)).result == PAM_SUCCESS


def test_oath__used_codes_stay_used(
    enroller: Enroller, outside: Path, make_service: Stack, alice: Person, service: Service
) -> None:
    oath = Oath(outside / "users", make_service, "HOTP/E/6")
    assert oath.log_in(hotp(KEY_HEX, 2)) == PAM_SUCCESS
    oath.path.write_text(oath.path.read_text().replace("root", alice.name, 1))
    assert enroller.run(TAKE, oath.path, "--no-confirm", "--user", alice.name).status == 0
    assert service.log_in(alice, hotp(KEY_HEX, 2)).result == PAM_AUTH_ERR
    assert service.log_in(alice, hotp(KEY_HEX, 3)).result == PAM_SUCCESS


def test_oath__user_picks_the_own_lines_only(enroller: Enroller, alice: Person, users: Path) -> None:
    users.write_text(f"HOTP {alice.name} - {KEY_HEX}\nHOTP root - {OTHER_HEX}\n")
    users.chmod(0o644)
    refused = enroller.run(TAKE, users, person=alice).refused()
    assert refused.error == "only root can take over the tokens of others"
    assert not alice.store.exists()
    own = (TAKE, users, "--user", alice.name)
    assert "no terminal" in enroller.run(*own, person=alice).refused().error
    assert not alice.store.exists()
    assert enroller.run(*own, "--no-confirm", person=alice).status == 0
    assert enroller.run(TAKE, users, "--user=daemon").refused().error == "there is no token of daemon in the file"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("HOTP nobody-of-that-name - " + KEY_HEX, "line 1 (nobody-of-that-name): there is no such user"),
        ("HOTP {user} - " + KEY_HEX + "\nHOTP {user} - abc", "line 2"),
        (
            "HOTP {user} - " + KEY_HEX + "\nHOTP {user} - " + KEY_HEX,
            "line 2 ({user}): the user has the same key",
        ),
        ("HOTP {user} 1 " + KEY_HEX, "cannot be taken over: a PIN has 4 to 16 characters"),
        ("HOTP {user} 1234 " + KEY_HEX + "\nHOTP {user} 4321 " + OTHER_HEX, "different PINs"),
        ("", "the file is empty"),
        ("some nonsense", "no format that is known here"),
    ],
)
def test_import__mistake_is_one_error_with_its_place_and_changes_nothing(
    enroller: Enroller, alice: Person, users: Path, text: str, error: str
) -> None:
    before = listing(alice.home)
    users.write_text(text.format(user=alice.name))
    refused = enroller.run(TAKE, users).refused()
    assert error.format(user=alice.name) in refused.error
    assert refused.hint
    assert KEY_HEX not in refused.error + refused.hint
    assert listing(alice.home) == before


def test_import__to_an_enrolled_account_needs_a_code_and_adds(
    enroller: Enroller, installed: Installation, alice: Person, outside: Path, service: Service
) -> None:
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=1")
    file = outside / "uri"
    file.write_text("otpauth://hotp/me?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&counter=7\n")
    with enroller.start(TAKE, str(file), person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.hotp())
        assert dialogue.finish() == 0
    for code in (phone.hotp(), hotp(KEY_HEX, 7), phone.recovery_codes[0]):
        assert service.log_in(alice, code).result == PAM_SUCCESS
    assert "its key is that of token" in enroller.run(TAKE, file, "--user", alice.name).refused().error


def test_import__pin_that_cannot_be_taken_over_is_reported(
    enroller: Enroller, installed: Installation, alice: Person, users: Path
) -> None:
    alice.enrol(installed, "--type=hotp", "--recovery-codes=0")
    users.write_text(f"HOTP {alice.name} 4711 {KEY_HEX}\n")
    assert "its PIN is not taken over" in enroller.run(TAKE, users, "--dry-run").stderr


def test_import__gets_different_names_and_one_can_be_chosen(enroller: Enroller, alice: Person, outside: Path) -> None:
    file = outside / "uris"
    first = "otpauth://hotp/me?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&counter=0\n"
    file.write_text(first + first.replace("GEZD", "MEZD").replace("QOJQ&", "QOJA&"))
    done = enroller.run(TAKE, file, "--no-confirm", "--dry-run", person=alice)
    assert [line.split('"')[1] for line in done.stdout.splitlines()] == ["me", "me 2"]
    file.write_text(first)
    done = enroller.run(TAKE, file, "--name=old phone", "--dry-run", person=alice)
    assert '"old phone"' in done.stdout


@pytest.mark.parametrize("kind", ["pipe", "directory", "missing", "somebody else's"])
def test_import__path_that_is_not_a_readable_file_does_not_hang(
    enroller: Enroller, alice: Person, outside: Path, kind: str
) -> None:
    path = outside / "odd"
    if kind == "pipe":
        os.mkfifo(path, 0o644)
    elif kind == "directory":
        path.mkdir()
    elif kind != "missing":
        path.write_text("HOTP")
        path.chmod(0o600)
    assert str(path) in enroller.run(TAKE, path, person=alice).refused().error
    assert not alice.store.exists()


def test_import__picture_of_a_qr_code(enroller: Enroller, alice: Person, outside: Path, service: Service) -> None:
    uri = "otpauth://hotp/host:me?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=host&counter=0"
    picture = outside / "picture.png"
    subprocess.run(["qrencode", "--output", picture, uri], check=True)
    assert enroller.run(TAKE, picture, "--no-confirm", "--recovery-codes=0", person=alice).status == 0
    assert service.log_in(alice, hotp(KEY_HEX, 0)).result == PAM_SUCCESS


def test_import__on_a_full_disk_changes_nothing(
    enroller: Enroller, alice: Person, small_home: Path, outside: Path
) -> None:
    file = outside / "uri"
    file.write_text("otpauth://hotp/me?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&counter=7\n")
    subprocess.run(["dd", "if=/dev/zero", f"of={small_home}/ballast", "bs=4k"], check=False, capture_output=True)
    refused = enroller.run(TAKE, file, "--no-confirm", person=alice).refused()
    assert "nothing was changed" in refused.error
    assert not alice.store.exists()


@pytest.mark.parametrize("name", ["", "a\nb", "n" * 65])
def test_import__invalid_name_is_a_usage_error(enroller: Enroller, alice: Person, outside: Path, name: str) -> None:
    file = outside / "uri"
    file.write_text("otpauth://hotp/me?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&counter=7\n")
    mistake = enroller.run(TAKE, file, f"--name={name}", "--no-confirm", person=alice).refused(2)
    assert "a name has 1 to 64 visible characters" in mistake.error
    assert not alice.store.exists()
