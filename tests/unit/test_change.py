"""The record of a pending change, while another process handles it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.account import places
from pam_softtoken.account.user_path import NamedFiles
from pam_softtoken.admin.change import record
from pam_softtoken.admin.change.record import Change
from pam_softtoken.program_errors import AdministrationFailed


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Change:
    """A change of sudo, not confirmed yet."""
    if os.geteuid() != 0:
        pytest.skip("needs root, who owns the record")
    monkeypatch.setattr(places, "CHANGES", str(tmp_path))
    planned = record.new("sudo", (), for_s=600)
    record.begin(planned)
    return planned


@pytest.mark.parametrize(("see_to_it", "left"), [(record.confirm, True), (record.forget, None)])
def test_record__handled_by_another_process_meanwhile_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch, waiting: Change, see_to_it: Callable[[Change], None], left: bool | None
) -> None:
    """The other process finishes exactly when the record is to be read."""
    read = NamedFiles.read

    def late(self: NamedFiles, path: str, max_bytes: int) -> bytes:
        if path.endswith(record.PENDING):
            see_to_it(waiting)
        return read(self, path, max_bytes)

    monkeypatch.setattr(NamedFiles, "read", late)
    found = record.load("sudo")
    assert (found.confirmed if found is not None else None) == left


def test_record__unreadable_one_is_an_error(waiting: Change, tmp_path: Path) -> None:
    pending = tmp_path / "sudo" / record.PENDING
    for damage in ("link", "directory", "text"):
        pending.unlink()
        if damage == "link":
            pending.symlink_to("nowhere")
        elif damage == "directory":
            pending.mkdir()
        else:
            pending.write_text("no record")
        with pytest.raises(AdministrationFailed):
            record.load("sudo")
        if damage == "directory":
            shutil.rmtree(pending)
            pending.touch()
