"""Check that this host's sudo can ask for signatures, before its configuration is changed. Change nothing."""

from __future__ import annotations

import ctypes
import os
import re

from pam_softtoken import platform_facts
from pam_softtoken.account.user_path import NamedFiles, reason
from pam_softtoken.admin.common import bounded
from pam_softtoken.admin.common.host_file import Content
from pam_softtoken.errors import PathError
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.signing import sudo_conf

LEAST = (1, 9)
"""The first version of sudo that has approval plugins."""
PLUGIN = f"{platform_facts.SUDO_PLUGINS}/{sudo_conf.FILE}"
_LIMIT_S = 10.0


def require_all(present: Content) -> None:
    """Check sudo, its configuration, and the file of our plugin.

    Args:
        present: sudo.conf.

    Raises:
        AdministrationFailed: one of them is not fit.
    """
    require_sudo()
    _require_heeded(present)
    require_plugin()


def require_sudo() -> None:
    """Check that sudo is there, and has approval plugins.

    Raises:
        AdministrationFailed: it is not, or has none.
    """
    answer = bounded.ask(platform_facts.SUDO, "-V")
    if answer is None:
        raise AdministrationFailed(f"{platform_facts.SUDO} cannot be run", hint="install sudo first")
    shown = answer.stdout.partition("\n")[0].strip()
    if "sudo-rs" in shown:
        raise AdministrationFailed(
            f"this sudo is {shown}, which has no plugins", hint="signatures need the sudo of sudo.ws, 1.9 or later"
        )
    version = re.match(r"Sudo version (\d+)\.(\d+)", shown)
    if version is None or answer.returncode != 0:
        why = terse(answer.stderr) or f'it says "{shown}", and its exit status is {answer.returncode}'
        raise AdministrationFailed(
            f"sudo does not work: {why}", hint=f"see {platform_facts.SUDO} -V, and {sudo_conf.PATH}"
        )
    if (int(version[1]), int(version[2])) < LEAST:
        raise AdministrationFailed(f"this is {shown}, which has no approval plugins", hint="sudo 1.9 or later has them")


def _require_heeded(present: Content) -> None:
    if present.data is not None and sudo_conf.is_ignored(present.mode, present.uid):
        raise AdministrationFailed(
            f"sudo ignores {sudo_conf.PATH}, because others than root could change it",
            hint=f"chown root:root {sudo_conf.PATH}; chmod 644 {sudo_conf.PATH}",
        )


def require_plugin() -> None:
    """Check the file of our plugin: only root can change it, and it can be loaded.

    Raises:
        AdministrationFailed: it is missing or not fit.
    """
    install, again = platform_facts.install_sudo_plugin(), platform_facts.install_sudo_plugin(again=True)
    if not os.path.lexists(PLUGIN):
        raise AdministrationFailed(f"{PLUGIN} is not there", hint=install)
    try:
        os.close(NamedFiles().open(PLUGIN))
    except PathError as error:
        raise AdministrationFailed(
            f"{PLUGIN} cannot be trusted: {reason(error, PLUGIN)}",
            hint=f"let only root write it and the directories above it, or: {again}",
        ) from None
    try:
        problem = bounded.answer_of(_load, limit_s=_LIMIT_S)
    except (TimeoutError, ValueError):
        problem = "it ends or holds up the program that loads it"
    if problem:
        raise AdministrationFailed(f"sudo could not load {PLUGIN}: {problem}", hint=again)


def _load() -> str:
    """Return why our plugin cannot be loaded. Run in a process of its own."""
    try:
        ctypes.c_char.in_dll(ctypes.CDLL(PLUGIN, mode=os.RTLD_NOW | os.RTLD_LOCAL), sudo_conf.SYMBOL)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def terse(text: str) -> str:
    """Return the first lines of what a program printed, in one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[:3])[:300]
