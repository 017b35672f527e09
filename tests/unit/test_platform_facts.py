"""What differs between hosts. The names of other distributions' packages were read, and not tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from pam_softtoken import platform_facts
from pam_softtoken.pam import client, installed_libpam

OS_RELEASE = {
    "debian": "PRETTY_NAME='Debian GNU/Linux 13 (trixie)'\nID=debian\n",
    "ubuntu": "ID=ubuntu\nID_LIKE=debian\n",
    "mint": "ID=linuxmint\nID_LIKE='ubuntu debian'\n",
    "fedora": "NAME='Fedora Linux'\nID=fedora\nVERSION_ID=43\n",
    "rhel": 'ID="rhel"\nID_LIKE="fedora"\n',
    "alma": 'ID="almalinux"\nID_LIKE="rhel centos fedora"\n',
    "arch": "ID=arch\n",
    "manjaro": "ID=manjaro\nID_LIKE=arch\n",
    "leap": 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n',
    "alpine": "ID=alpine\n",
    "other": "ID=nixos\n",
    "damaged": "\0\n=\nID\n",
}

MINIMAL, NO_PYTHON = "apt install --reinstall python3-minimal", "install the Python of /usr/bin/python3 again"


@pytest.mark.parametrize(
    ("host", "install", "again", "python"),
    [
        (
            "debian",
            "apt install python3-segno",
            "apt install --reinstall ours",
            MINIMAL,
        ),
        (
            "ubuntu",
            "apt install python3-segno",
            "apt install --reinstall ours",
            MINIMAL,
        ),
        (
            "mint",
            "apt install python3-segno",
            "apt install --reinstall ours",
            MINIMAL,
        ),
        ("fedora", "dnf install python3-segno", "dnf reinstall ours", "dnf reinstall python3"),
        ("rhel", "dnf install python3-segno", "dnf reinstall ours", "dnf reinstall python3"),
        ("alma", "dnf install python3-segno", "dnf reinstall ours", "dnf reinstall python3"),
        ("arch", "pacman -S python-segno", "pacman -S ours", "pacman -S python"),
        ("manjaro", "pacman -S python-segno", "pacman -S ours", "pacman -S python"),
        ("leap", "zypper install python3-segno", "zypper install --force ours", "zypper install --force python3"),
        ("alpine", "apk add py3-segno", "apk fix ours", "apk fix python3"),
        (
            "other",
            "pip install segno",
            "install the package ours again",
            "install the Python of /usr/bin/python3 again",
        ),
        (
            "damaged",
            "pip install segno",
            "install the package ours again",
            "install the Python of /usr/bin/python3 again",
        ),
    ],
)
def test_advice__names_the_package_manager_of_the_host(
    host: str, install: str, again: str, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "os-release"
    release.write_text(OS_RELEASE[host])
    kind = platform_facts.family((str(tmp_path / "missing"), str(release)))
    monkeypatch.setattr(platform_facts, "PACKAGE", "ours")
    assert platform_facts.install("segno", kind=kind) == install
    assert platform_facts.reinstall(kind=kind) == again
    assert platform_facts.reinstall_interpreter(kind=kind) == python


def test_advice__without_a_package_of_the_distribution_names_pypi() -> None:
    assert platform_facts.install("python-pskc", kind="debian") == "apt install python3-pskc"
    assert platform_facts.install("python-pskc", kind="fedora") == "pip install python-pskc"
    # Half of it from one place and half from another would be no command.
    assert platform_facts.install("pillow", "zxing-cpp", kind="arch") == "pip install pillow zxing-cpp"
    both = platform_facts.install("cryptography", extra="device", kind="arch")
    assert both == "pacman -S python-cryptography, or pip install 'pam-softtoken[device]'"
    assert platform_facts.install("cryptography", extra="device", kind="") == "pip install 'pam-softtoken[device]'"


@pytest.mark.parametrize("kind", ["alpine", ""])
def test_advice__what_is_no_library_is_never_from_pypi(kind: str) -> None:
    assert "pip" not in platform_facts.install("systemd", kind=kind)
    assert "pip" not in platform_facts.install("time service", kind=kind)


def test_advice__for_a_build_from_source_is_to_install_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_facts, "PACKAGE", "")
    monkeypatch.setattr(platform_facts, "BUILD", "scripts/build --prefix /opt/softtoken")
    monkeypatch.setattr(platform_facts, "INTERPRETER", "/opt/python/bin/python3")
    for kind in ("debian", "fedora", ""):
        assert platform_facts.reinstall(kind=kind) == "scripts/build --prefix /opt/softtoken"
        assert platform_facts.reinstall_interpreter(kind=kind) == "install the Python of /opt/python/bin/python3 again"


@pytest.mark.parametrize(
    ("kind", "install", "again"),
    [
        ("debian", "apt install sudo-softtoken", "apt install --reinstall sudo-softtoken"),
        ("fedora", "dnf install sudo-softtoken", "dnf reinstall sudo-softtoken"),
        ("", "install the package sudo-softtoken", "install the package sudo-softtoken"),
    ],
)
def test_advice__for_the_plugin_of_sudo_names_its_package(
    kind: str, install: str, again: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert platform_facts.install_sudo_plugin(kind=kind) == install
    assert platform_facts.install_sudo_plugin(kind=kind, again=True) == again
    monkeypatch.setattr(platform_facts, "PACKAGE", "")
    monkeypatch.setattr(platform_facts, "BUILD", "scripts/build --prefix /opt/softtoken")
    assert platform_facts.install_sudo_plugin(kind=kind, again=True) == "scripts/build --prefix /opt/softtoken"


def test_editor__is_one_that_the_host_has() -> None:
    assert platform_facts.editor("/etc/pam.d/a b", kind="debian") == "sensible-editor '/etc/pam.d/a b'"
    assert platform_facts.editor("/etc/pam.d/sudo", kind="fedora") == "vi /etc/pam.d/sudo"


# Source: strings(1) of the libpam of Debian 12. The second one is made up after the source of Linux-PAM 1.7.
DEBIAN_12 = b"/lib/security\0/etc/pam.d\0/usr/lib/pam.d\0@include\0/lib/x86_64-linux-gnu/security/\0/etc/pam.d/%s\0"
VENDOR = b"\0/usr/lib64/security/\0/usr/etc/pam.d/%s\0%s/lib/security/\0maximum level of inclusions reached\0"


@pytest.mark.parametrize(
    ("code", "modules", "vendor"),
    [
        (b"\0" + DEBIAN_12, ("/lib/x86_64-linux-gnu/security", "/lib/security"), False),
        (VENDOR, ("/usr/lib64/security",), True),
    ],
)
def test_libpam__says_where_it_looks(code: bytes, modules: tuple[str, ...], vendor: bool, tmp_path: Path) -> None:
    library = tmp_path / "libpam.so.0"
    library.write_bytes(code)
    assert installed_libpam.directories_of(str(library)) == modules
    assert installed_libpam.dialect_of(str(library)).vendor is vendor


def test_our_module__is_named_by_its_path_where_libpam_does_not_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_ROOT", tmp_path)
    monkeypatch.setattr(installed_libpam, "module_directories", lambda: (str(tmp_path),))
    monkeypatch.setattr(platform_facts, "MODULES", "/usr/local/lib64/security")
    assert client.our_module() == "[/usr/local/lib64/security/pam_softtoken.so]"
    (tmp_path / "link").symlink_to(tmp_path)
    for directory in ("", str(tmp_path), str(tmp_path / "link")):
        monkeypatch.setattr(platform_facts, "MODULES", directory)
        assert client.our_module() == "pam_softtoken.so"
