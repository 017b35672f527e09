"""Whom sudo would ask for a signature, and whom it would refuse."""

from __future__ import annotations

import pytest

from pam_softtoken.admin.access.sign_forecast import NEVER_ENROLLED, Outlook, Signer, SudoUser, lines
from pam_softtoken.admin.sshd.match_blocks import MAYBE, NO, YES

CAN_SIGN = Signer(is_marked=True, tokens=("laptop",))
REVOKED = Signer(is_marked=True, why="all signing tokens were revoked")
NEVER = Signer(is_marked=False, why=NEVER_ENROLLED)


def user(name: str, signer: Signer, sudo: int = YES, root: int = YES) -> SudoUser:
    return SudoUser(name, signer, sudo, root)


@pytest.mark.parametrize(
    ("signer", "required", "through"),
    [
        (CAN_SIGN, False, True),
        (CAN_SIGN, True, True),
        (REVOKED, False, False),
        (REVOKED, True, False),
        (NEVER, False, True),
        (NEVER, True, False),
    ],
)
def test_outlook__says_who_could_still_use_sudo(signer: Signer, required: bool, through: bool) -> None:
    found = Outlook((user("alice", signer),), required)
    assert found.is_through(found.users[0]) is through
    assert bool(found.refused(YES)) is not through
    assert not found.refused(MAYBE)
    assert bool(found.asked) is bool(signer.tokens)
    assert bool(found.unasked) is (through and not signer.tokens)


def test_refusal__is_for_the_runner_and_the_last_user_who_can_become_root() -> None:
    alice, bob, carol = user("alice", CAN_SIGN), user("bob", NEVER), user("carol", NEVER, root=NO)
    assert Outlook((alice, bob), required=True).refusal("alice") == ""
    assert Outlook((alice, bob), required=True).refusal("root") == ""
    assert "you are bob, and sudo would refuse you: no signing token" in Outlook((alice, bob), True).refusal("bob")
    assert "you are carol" in Outlook((alice, carol), required=True).refusal("carol")
    assert "everybody who can become root" in Outlook((bob, carol), required=True).refusal("root")
    assert Outlook((bob, carol), required=False).refusal("root") == ""
    assert Outlook((carol,), required=True).refusal("root") == ""
    assert "everybody" in Outlook((user("alice", REVOKED),), required=False).refusal("root")
    weak = user("alice", CAN_SIGN, root=NO)
    assert "everybody" in Outlook((weak, bob), required=True).refusal("root")


def test_lines__name_users_by_what_happens_to_them() -> None:
    users = (user("alice", CAN_SIGN), user("bob", NEVER), user("carol", REVOKED), user("dave", REVOKED, sudo=MAYBE))
    assert list(lines(Outlook(users, required=False))) == [
        "sudo would ask for a signature: alice (laptop)",
        "Not asked, for want of a signing token: bob",
        "These may use sudo today, and would be refused:",
        "  carol: all signing tokens were revoked",
        "Perhaps these, too:",
        "  dave: all signing tokens were revoked",
        "softtoken-enroll --sign --user NAME enrols a signing token of one of them.",
    ]
    assert list(lines(Outlook(users[1:2], required=True))) == [
        "Nobody who may use sudo has a signing token yet, so nobody can sign.",
        "These may use sudo today, and would be refused:",
        "  bob: no signing token",
        "softtoken-enroll --sign --user NAME enrols a signing token of one of them.",
    ]


def test_lines__say_when_root_could_not_help_on_the_console() -> None:
    text = "root has no password, so nobody can log in on the console to help whose laptop is lost: passwd root"
    assert text in lines(Outlook((), required=False, root_has_password=False))
    assert text not in lines(Outlook((), required=False))
