"""Use `softtoken` as the user's device: it gets only the picture of the QR code from the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.device import Device
from tests.support.hosts import Host
from tests.support.installation import Installation
from tests.support.system_log import SystemLog
from tests.system.scenario import SLOW


@pytest.mark.parametrize("kind", ["--type=hotp", SLOW])
def test_device__that_knows_the_picture_logs_in_and_each_code_once(
    kind: str,
    make_host: Callable[[str], Host],
    installed: Installation,
    alice: Person,
    system_log: SystemLog,
    tmp_path: Path,
) -> None:
    host = make_host("sshd with password")
    host.use_stack(installed.line())
    picture = tmp_path / "qr.png"
    alice.enrol(installed, kind, f"--png={picture}")
    device = Device(tmp_path / "data")
    device.did("add", "--image", picture, "--name", "work")
    code = device.did("code", "work").strip()
    assert host.log_in(alice, code).entered_as == alice.name
    assert not host.log_in(alice, code).entered_as
    assert system_log.reasons() == ["accepted", "replayed"]
    if kind == "--type=hotp":
        assert host.log_in(alice, device.did("code", "work").strip()).entered_as == alice.name
