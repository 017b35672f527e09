"""Read what root keeps of a user who signs sudo commands, and whether sudo asks."""

from __future__ import annotations

import os
import shlex
from typing import Any

from pam_softtoken.account import safe_open, signer_keeper, signer_records, signers, token_file
from pam_softtoken.admin.common import person, survey
from pam_softtoken.enroll.token_list import utc
from pam_softtoken.errors import FOREIGN, DamagedState, InsecureFile, OtherAccount, PathError
from pam_softtoken.signing import sudo_conf

OFF, SIGNERS, REQUIRED, UNKNOWN = "off", "signers", "required", "unknown"
"""Whom sudo asks for a signature: nobody, users who have the mark, everybody; or this is not known."""

Facts = dict[str, Any]


def sudo_asks() -> str:
    """Return whom sudo asks for a signature: one of the words above."""
    try:
        if not sudo_conf.is_on():
            return OFF
        return REQUIRED if sudo_conf.is_required() else SIGNERS
    except OSError:
        return UNKNOWN


def enrolling(user: str) -> str:
    """Return the command with which root makes a signing token of a user."""
    return f"softtoken-enroll --sign --user {shlex.quote(user)}"


def stop_asking(user: str) -> str:
    """Return the command with which root ends the asking for a user who has no token any more. Any name will do."""
    return f"softtoken-enroll --sign --user {shlex.quote(user)} --remove laptop"


def facts_of(name: str, uid: int, *, now: int) -> Facts:
    """Return the facts about one user.

    Args:
        name, uid: of the account.
        now: Unix seconds.

    Returns:
        `marked`: sudo asks the user, or refuses. `tokens`: name and time of each. `waiting`: until when signatures are
        not judged. `revoked`: all tokens were revoked. `problem`: why sudo refuses the user; empty if it does not.
        `cure`: what helps, or empty.
    """
    facts: Facts = {"marked": False, "tokens": [], "waiting": [], "revoked": False, "problem": "", "cure": ""}
    account = safe_open.Account(name, uid, uid, home="/")
    try:
        facts["marked"] = signers.is_marked(account)
        if facts["marked"]:
            _look(account, facts, now)
    except PathError as error:
        facts["marked"] = True
        facts["problem"], facts["cure"] = str(error), _cure_of(error, account)
    return facts


def _look(account: safe_open.Account, facts: Facts, now: int) -> None:
    keeper = signer_keeper.Keeper(account)
    try:
        content = keeper.look_at_any()
        if content is None:
            raise FileNotFoundError
        tokens, owner = content
        facts["tokens"] = [{"name": each.name, "created": utc(each.created)} for each in tokens]
        if owner != (account.name, account.uid):
            raise OtherAccount(signers.uid_mark(account.uid), f"holds the signing tokens of {_described(owner)}")
        if not tokens:
            facts["revoked"] = True
            facts["problem"] = "all signing tokens were revoked, so that sudo refuses"
            facts["cure"] = enrolling(account.name)
        state = keeper.glance_at_state()
        facts["waiting"] = survey.waits(state, account.uid, now, with_pin=True)
    except FileNotFoundError:
        facts["problem"], facts["cure"] = _why_absent(account)
    finally:
        keeper.close()


def _described(owner: token_file.Owner) -> str:
    return token_file.described(owner)


def _why_absent(account: safe_open.Account) -> tuple[str, str]:
    """Return why a user with a mark has no token file, and what helps."""
    for each in signer_records.of_account(account):
        if each.uid != account.uid and each.owner is not None:
            return f"the signing tokens are those of {_described(each.owner)}", _rebind(account, each.owner)
    return "has the mark of a user who signs, and no signing token, so that sudo refuses", enrolling(account.name)


def _rebind(account: safe_open.Account, owner: token_file.Owner) -> str:
    """Return the command for tokens of another account; empty if that account is there."""
    present = person.account_if_known(owner[0])
    if present is not None and present.uid == owner[1]:
        return ""
    return shlex.join(token_file.rebind_words((account.name, account.uid), owner))


def _cure_of(error: PathError, account: safe_open.Account) -> str:
    """Return what helps. Root takes no file of another user for its own without revoking what is in it."""
    user, place = shlex.quote(account.name), shlex.quote(signers.uid_mark(account.uid))
    if isinstance(error, OtherAccount):
        record = signer_records.read(account.uid)
        return _rebind(account, record.owner) if record.owner is not None else ""
    if isinstance(error, DamagedState):
        return f"{person.PROGRAM} reset-state {user}"
    if isinstance(error, InsecureFile) and error.kind == FOREIGN:
        return f"chown -hR root {place} && {person.PROGRAM} revoke {user}"
    if isinstance(error, InsecureFile) and os.path.isdir(signers.uid_mark(account.uid)):
        return f"chmod -R go= {place}"
    return f"softtoken-enroll --sign --user {user} --force"
