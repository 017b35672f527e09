"""What differs between hosts: paths, interpreter, package manager, names of packages and of files for services.

The first part is fixed: `scripts/lib/facts.py` writes it when the product is built. The rest is read from the host, and
only by the programs. All advice to install something comes from here. A usual login does not load this, and no login
reads anything from the host here.
"""

from __future__ import annotations

INTERPRETER = "/usr/bin/python3"
"""The bridge starts it."""
HOME = "/usr/lib/pam_softtoken"
"""The directory with our package and the backend."""
MODULES = ""
"""The directory of our PAM module; empty if libpam looks there."""
LIBRARIES = "/usr/lib/python3/dist-packages"
"""The directory of the libraries that the host's packages bring. By itself, a backend finds only the standard library.
"""
PACKAGE = "libpam-softtoken"
"""The package that holds our module and the programs; empty if they were built from source without one."""
COMMON_PACKAGE = "softtoken-common"
"""The package that holds the Python side."""
SUDO_PACKAGE = "sudo-softtoken"
"""The package that holds our plugin for sudo. It is built with `PACKAGE`."""
SUDO_PLUGINS = "/usr/libexec/sudo"
"""The directory of our plugin, where sudo looks for its plugins."""
BUILD = ""
"""The command that installs from source again, in the directory of the source."""

BACKEND = f"{HOME}/bin/softtoken-backend"
PYTHON_MODULE = f"{HOME}/pam_module.py"
"""Our module for libpam-python."""
SERVICE_DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d")
"""Each libpam looks for a service here, in this order."""
VENDOR_DIRECTORY = "/usr/etc/pam.d"
"""Some also look here, last."""
SESSIONS = (
    "/usr/lib/openssh/sshd-session",
    "/usr/libexec/openssh/sshd-session",
    "/usr/libexec/sshd-session",
    "/usr/lib/ssh/sshd-session",
)
"""sshd's program that asks since OpenSSH 9.8."""
SSHD, LOGIN, SU = ("/usr/sbin/sshd", "/usr/bin/sshd"), ("/usr/bin/login", "/bin/login"), ("/usr/bin/su", "/bin/su")
"""Where some distributions have one directory for all programs, /usr/sbin is a link, and the kernel shows /usr/bin."""
SUDO = "/usr/bin/sudo"
"""An absolute path, so that no PATH leads to another sudo."""
SUDO_WITH_PLUGINS = f"{SUDO}.ws"
"""The sudo that has plugins, where a distribution has sudo-rs as `SUDO`."""
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_MOST_BYTES = 64 * 1024

DEBIAN, FEDORA, ARCH, SUSE, ALPINE = "debian", "fedora", "arch", "suse", "alpine"
_FAMILIES = {
    "debian": DEBIAN, "ubuntu": DEBIAN, "fedora": FEDORA, "rhel": FEDORA, "centos": FEDORA, "arch": ARCH,
    "suse": SUSE, "opensuse": SUSE, "opensuse-leap": SUSE, "opensuse-tumbleweed": SUSE, "sles": SUSE, "alpine": ALPINE,
}  # fmt: skip
"""The family of a distribution, by its ID in os-release(5)."""
_INSTALL = {
    DEBIAN: ("apt install", "apt install --reinstall"),
    FEDORA: ("dnf install", "dnf reinstall"),
    ARCH: ("pacman -S", "pacman -S"),
    SUSE: ("zypper install", "zypper install --force"),
    ALPINE: ("apk add", "apk fix"),
}
"""The commands that install a package, and that install it again."""
_NAMES = {
    # What is installed: Debian, Fedora, Arch, openSUSE, Alpine. An empty name means that no package is known.
    "cryptography": ("python3-cryptography", "python3-cryptography", "python-cryptography", "python3-cryptography",
                     "py3-cryptography"),
    "keyring": ("python3-keyring", "python3-keyring", "python-keyring", "python3-keyring", "py3-keyring"),
    "pamela": ("python3-pamela", "", "", "python3-pamela", ""),
    "pillow": ("python3-pil", "python3-pillow", "python-pillow", "python3-Pillow", "py3-pillow"),
    "prompt_toolkit": ("python3-prompt-toolkit", "python3-prompt-toolkit", "python-prompt_toolkit",
                       "python3-prompt_toolkit", "py3-prompt_toolkit"),
    "pynacl": ("python3-nacl", "python3-pynacl", "python-pynacl", "python3-PyNaCl", "py3-pynacl"),
    "python": ("python3-minimal", "python3", "python", "python3", "python3"),
    "python-pskc": ("python3-pskc", "", "", "", ""),
    "segno": ("python3-segno", "python3-segno", "python-segno", "python3-segno", "py3-segno"),
    "systemd": ("systemd", "systemd", "systemd", "systemd", ""),
    "time service": ("systemd-timesyncd", "chrony", "chrony", "chrony", "chrony"),
    "zxing-cpp": ("python3-zxing-cpp", "python3-zxing-cpp", "", "", ""),
}  # fmt: skip
"""The name of a package in each family. The key is the name at PyPI, or what is meant."""
_NOT_AT_PYPI = frozenset({"python", "systemd", "time service"})
_INCLUDED = frozenset({
    "system-auth", "password-auth", "fingerprint-auth", "smartcard-auth", "postlogin",  # Fedora, RHEL
    "system-login", "system-local-login", "system-remote-login", "system-services",  # Arch
    "base-auth", "base-account", "base-password", "base-session", "base-session-noninteractive",  # Alpine
})  # fmt: skip
"""Files in the directories of services that other services include. No program asks under these names."""
_COMMON = "common-"
"""So begin the names of these files in Debian and openSUSE."""


def is_included_only(service: str) -> bool:
    """Check whether a file in a directory of services only serves to be included."""
    return service.startswith(_COMMON) or service in _INCLUDED


def is_of_pam_auth_update(path: str) -> bool:
    """Check whether Debian's pam-auth-update writes a file."""
    return path.startswith(f"{SERVICE_DIRECTORIES[0]}/{_COMMON}")


def family(paths: tuple[str, ...] = _OS_RELEASE) -> str:
    """Return the family of the host's distribution, such as `DEBIAN`; empty if it is not known.

    Args:
        paths: of os-release files. The first one that exists counts.
    """
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(_MOST_BYTES)
        except OSError:
            continue
        return _family_of(text)
    return ""


def _family_of(text: str) -> str:
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    names = [word for key in ("ID", "ID_LIKE") for word in fields.get(key, "").strip("\"'").split()]
    return next((_FAMILIES[name] for name in names if name in _FAMILIES), "")


def install(*wanted: str, kind: str | None = None, extra: str = "") -> str:
    """Return the command that installs something on this host.

    Args:
        wanted: keys of the table of names.
        kind: a family in place of this host's.
        extra: the extra of our project at PyPI that brings all of it, as another way.
    """
    commands, known = _commands(kind), _packages(wanted, kind)
    ways = [f"{commands[0]} {' '.join(known)}"] if commands and known else []
    if all(name not in _NOT_AT_PYPI for name in wanted) and (extra or not known):
        ways.append(f"pip install 'pam-softtoken[{extra}]'" if extra else f"pip install {' '.join(wanted)}")
    return ", or ".join(ways) or f"install {' and '.join(wanted)} with the package manager of this host"


def reinstall(*, kind: str | None = None, common: bool = False) -> str:
    """Return the command that installs our own files again.

    Args:
        kind: a family in place of this host's.
        common: the Python side is meant, if it is a package of its own.
    """
    package = COMMON_PACKAGE if common else PACKAGE
    if not package:
        return BUILD or "run scripts/build in the source of pam_softtoken again, as before"
    commands = _commands(kind)
    return f"{commands[1]} {package}" if commands else f"install the package {package} again"


def install_sudo_plugin(*, kind: str | None = None, again: bool = False) -> str:
    """Return the command that installs our plugin for sudo.

    Args:
        kind: a family in place of this host's.
        again: it is there, and damaged.
    """
    commands = _commands(kind)
    if not PACKAGE or commands is None:
        return reinstall(kind=kind) if not PACKAGE else f"install the package {SUDO_PACKAGE}"
    return f"{commands[again]} {SUDO_PACKAGE}"


def reinstall_interpreter(*, kind: str | None = None) -> str:
    """Return the command that installs the interpreter again."""
    commands, known = _commands(kind), _packages(("python",), kind)
    if not commands or not INTERPRETER.startswith("/usr/bin/"):
        return f"install the Python of {INTERPRETER} again"
    return f"{commands[1]} {known[0]}"


def editor(path: str, *, kind: str | None = None) -> str:
    """Return the command that opens a file in an editor."""
    import shlex  # noqa: PLC0415 - it is slow, and some logins load this module

    program = "sensible-editor" if (family() if kind is None else kind) == DEBIAN else "vi"
    return f"{program} {shlex.quote(path)}"


def _commands(kind: str | None) -> tuple[str, str] | None:
    return _INSTALL.get(family() if kind is None else kind)


def _packages(wanted: tuple[str, ...], kind: str | None) -> list[str]:
    """Return the packages of the host's distribution; an empty list if one of them is not known."""
    found = family() if kind is None else kind
    if found not in _INSTALL:
        return []
    packages = [_NAMES[name][list(_INSTALL).index(found)] for name in wanted]
    return packages if all(packages) else []
