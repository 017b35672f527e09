"""An enrolment in a login against a revocation at the same moment. Real hosts test everything else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pam_softtoken import log
from pam_softtoken.account import places, revoking
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.state import State
from pam_softtoken.config import Config
from pam_softtoken.errors import EnrolmentRefused
from pam_softtoken.login import policy
from pam_softtoken.login.enrolment_dialogue import Confirmed
from pam_softtoken.login.login_enrolment import Newcomer


def test_newcomer__revoked_while_the_files_are_written_is_not_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at any login, the last check comes after the state is durable. The mark was checked before."""
    for name, path in (("DATA", tmp_path), ("REVOKED", tmp_path / "revoked"), ("ENROLLED", tmp_path / "enrolled")):
        monkeypatch.setattr(places, name, str(path))
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    account = Account("me", os.getuid(), os.getgid(), home=str(home))
    newcomer = Newcomer(None, account, Config(), log.Log(lambda level, line: None))
    now, token = int(time.time()), newcomer._token
    limits = policy.Limits.of(Config())
    finding = policy.confirm(token, State.new(), token.otp_at(now // 30), now=now, limits=limits)
    write = Editor._write_durably

    def revoke_and_write(self: Editor, *state: State) -> None:
        if state[0].last:
            revoking.revoke(account.uid, fingerprints=(), everything=True, now=now)
        write(self, *state)

    monkeypatch.setattr(Editor, "_write_durably", revoke_and_write)
    with pytest.raises(EnrolmentRefused):
        newcomer._write(Confirmed(finding, now=now))
    assert not (home / ".softtoken" / "tokens").exists()
