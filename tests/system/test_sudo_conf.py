"""What sudo itself reads in sudo.conf."""

from __future__ import annotations

import shutil

import pytest

from pam_softtoken.signing import sudo_conf
from tests.support.account import Person
from tests.support.private_mounts import PrivateMounts
from tests.support.sudo_confs import LINE, WITH_OURS, WITHOUT_OURS
from tests.support.sudo_signing import NO, PLUGINS, YES, SigningSudo, build_plugin


@pytest.fixture
def sudo(mounts: PrivateMounts, alice: Person) -> SigningSudo:
    """A sudo whose plugin refuses everybody, where it is loaded."""
    made = SigningSudo(mounts)
    made.allow(f"{alice.name} ALL=(ALL) NOPASSWD: /usr/bin/true")
    build_plugin(made.plugin, NO)
    shutil.copy(made.plugin, made.plugin.with_name("other.so"))
    return made


def test_sudo__reads_our_line_where_we_do(sudo: SigningSudo) -> None:
    for texts, works in ((WITH_OURS, False), (WITHOUT_OURS, True)):
        for name, text in texts.items():
            sudo.conf.write_text(text, errors="surrogateescape", newline="")
            assert sudo.works() is works, name
            sudo.conf.write_text(sudo_conf.without_lines(text), errors="surrogateescape", newline="")
            assert sudo.works(), name


def test_sudo__asks_an_approval_plugin_beside_its_own_policy(sudo: SigningSudo, alice: Person) -> None:
    sudo.conf.write_text(LINE)
    assert not sudo.works()
    assert not sudo.works(alice.name)
    build_plugin(sudo.plugin, YES)
    assert sudo.works(), sudo.run("-n", "true").stderr
    assert sudo.works(alice.name)
    refused = sudo.run("-n", "id", user=alice.name)
    assert refused.returncode == 1
    assert "a password is required" in refused.stderr
    shown = sudo.run("-V").stdout
    assert all(f"Sudoers {kind} plugin" in shown for kind in ("policy", "I/O", "audit"))


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_sudo__ignores_a_file_that_others_could_change(mode: int, sudo: SigningSudo) -> None:
    sudo.conf.write_text(LINE)
    assert not sudo.works()
    sudo.conf.chmod(mode)
    assert sudo.works(), sudo.run("-n", "true").stderr
    sudo.conf.chmod(0o644)
    shutil.chown(sudo.conf, 1)
    assert sudo.works(), sudo.run("-n", "true").stderr


@pytest.mark.parametrize("elsewhere", ["/opt", "/opt/"])
def test_sudo__finds_our_plugin_even_if_it_looks_for_others_elsewhere(elsewhere: str, sudo: SigningSudo) -> None:
    text = f"Path plugin_dir {elsewhere}\nPlugin sudoers_policy {PLUGINS}/sudoers.so\n"
    sudo.conf.write_text(text)
    assert sudo.works(), sudo.run("-n", "true").stderr
    sudo.conf.write_text(sudo_conf.with_line(text, required=False, directory=PLUGINS))
    assert not sudo.works()
    build_plugin(sudo.plugin, YES)
    assert sudo.works(), sudo.run("-n", "true").stderr
