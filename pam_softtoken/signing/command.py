"""What sudo is about to do, as a statement. Reads the host's accounts and the owners of the program's directories.

sudo decides what runs. This only says it: all of what sudo passes on is in the statement, or in the short list of what
changes nothing.
"""

from __future__ import annotations

import os

from pam_softtoken.account import user_lookup
from pam_softtoken.account.checked_walk import CheckedWalk
from pam_softtoken.errors import InsecureFile, UnknownUser, UnusableFile
from pam_softtoken.otp.statement import Statement
from pam_softtoken.signing import shells

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account
    from pam_softtoken.bridge.approval_wire import Start

_SYSTEM_PATH = frozenset((
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/games", "/usr/games",
    "/snap/bin",
))  # fmt: skip
"""Directories that only root changes. A PATH of nothing else needs no look."""
_HARMLESS = frozenset(("LS_COLORS", "COLORS", "XAUTHORITY", "XAUTHORIZATION"))
"""No program does anything else because of these, whatever they say."""
_HARMLESS_WORDS = frozenset((
    "TERM", "COLORTERM", "LANG", "LANGUAGE", "TZ", "DISPLAY", "HOSTNAME", "XDG_CURRENT_DESKTOP",
))  # fmt: skip
"""These choose between what the host has, as long as they name no file. Source: `env_check` in sudoers(5)."""
_IN_WORDS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@:+,=-"
"""A script that uses such a variable carelessly may run or expand anything else."""
_LIMITS = ("as", "cpu", "data", "fsize")
"""Limits of the caller that can stop a command in the middle. They are seldom set."""
_USUAL_CLOSEFROM = 3
_NO_SHELLS = frozenset(("nologin", "false"))
_MAX_SUDO_COMMAND = 4096
NOTE_EDIT = "what is written to the files is not signed"
NOTE_SHELL = "everything that is typed there runs as {}"
KIND_EDIT, KIND_SHELL, KIND_LOGIN_SHELL = "sudoedit", "shell", "login-shell"


def statement_of(start: Start, *, now: int, nonce: str, key: str) -> Statement:
    """Return the statement of what sudo is about to do.

    Args:
        start: what sudo says.
        now: Unix seconds.
        nonce: 32 random hexadecimal digits.
        key: name of the key, from `signing.key_id`.

    Raises:
        ValueError: sudo's facts make no statement.
    """
    user, command = start.user_info, start.command_info
    kind = _kind_of(start)
    if kind == KIND_EDIT:  # the editor is the caller's, and its environment too
        number = int(command.get("sudoedit_nfiles", len(start.argv)))
        run: tuple[str, ...] = (KIND_EDIT, *start.argv[max(0, len(start.argv) - number) :])
    else:
        run = (command["command"], *start.argv[1:])
    as_user, runas = _run_as(command)
    # What sudo intercepts has a directory of its own; "cwd" is that of the first command.
    cwd = command.get("runcwd") or command.get("cwd") or user.get("cwd", "")
    return Statement(
        host=user.get("host") or os.uname().nodename, user=user["user"], as_user=as_user, cwd=cwd,
        tty=user.get("tty", ""), chroot=command.get("chroot"), run=run, kind=kind,
        env=() if kind == KIND_EDIT else tuple(_telling(start, run, runas)),
        argv0=None if kind == KIND_EDIT or start.argv[0] == os.path.basename(run[0]) else start.argv[0],
        notes=tuple(_notes(start, kind, as_user, cwd)), time=now, nonce=nonce, key=key,
    )  # fmt: skip


def _kind_of(start: Start) -> str:
    if start.command_info.get("sudoedit") == "true":
        return KIND_EDIT
    if "login_shell=true" in start.settings:
        return KIND_LOGIN_SHELL
    return KIND_SHELL if "run_shell=true" in start.settings else ""


def _run_as(command: dict[str, str]) -> tuple[str, Account | None]:
    """Return whom the command runs as, in words, and the account."""
    uid, gid = int(command["runas_uid"]), int(command.get("runas_gid", "-1"))
    words, account = _name_of(uid)
    effective = int(command.get("runas_euid", uid))
    if effective != uid:
        words = f"{_name_of(effective)[0]} with the real user {words}"
    if gid not in (-1, account.gid if account is not None else -1):
        words += f":{_group_name(gid)}"
    if command.get("preserve_groups") == "true":
        words += " with the groups of the caller"
    return words, account


def _name_of(uid: int) -> tuple[str, Account | None]:
    try:
        account = user_lookup.account_of_uid(uid)
    except UnknownUser:
        return f"#{uid}", None
    return account.name, account


def _group_name(gid: int) -> str:
    import grp  # noqa: PLC0415 - few commands name a group

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"#{gid}"


def _telling(start: Start, run: tuple[str, ...], runas: Account | None) -> list[str]:
    """Return the variables that can change what the command does, in their order, without those that cannot."""
    usual = _set_by_sudo(start, runas)
    return [
        variable
        for variable in start.env
        if not _is_harmless(*variable.partition("=")[::2], usual) and not _tells_the_command(variable, run)
    ]


def _tells_the_command(variable: str, run: tuple[str, ...]) -> bool:
    """Check whether a variable is sudo's own record of the command. It has no option that sudo adds for a login shell,
    and other backslashes.
    """
    told = variable.removeprefix("SUDO_COMMAND=").replace("\\", "")
    words = [word for place, word in enumerate(run) if (place, word) != (1, "--login")]
    return variable.startswith("SUDO_COMMAND=") and " ".join(words).replace("\\", "")[:_MAX_SUDO_COMMAND] == told


def _set_by_sudo(start: Start, runas: Account | None) -> dict[str, str]:
    """Return the variables that sudo sets itself. A caller who may set variables can give these other values."""
    user = start.user_info
    usual = {
        "SUDO_USER": user["user"], "SUDO_UID": user.get("uid", ""), "SUDO_GID": user.get("gid", ""),
        "SUDO_TTY": user.get("tty", ""),
    }  # fmt: skip
    caller = _name_of(int(user["uid"]))[1]
    if caller is not None:
        usual["SUDO_HOME"] = caller.home
    if runas is not None:
        usual |= {
            "HOME": runas.home, "USER": runas.name, "LOGNAME": runas.name, "USERNAME": runas.name,
            "MAIL": f"/var/mail/{runas.name}",
        }  # fmt: skip
    return usual


def _is_harmless(name: str, value: str, usual: dict[str, str]) -> bool:
    if name in _HARMLESS or usual.get(name) == value:
        return True
    if name in _HARMLESS_WORDS or name.startswith("LC_"):
        is_elsewhere = name == "DISPLAY" and value.partition(":")[0] not in ("", "localhost")
        return not value.strip(_IN_WORDS) and not is_elsewhere
    if name == "SHELL":
        directory, _, program = value.rpartition("/")
        return directory in _SYSTEM_PATH and program in (shells.SHELLS | shells.WITH_SHELLS | _NO_SHELLS)
    return name == "PATH" and bool(value) and _SYSTEM_PATH.issuperset(value.split(":"))


def _notes(start: Start, kind: str, as_user: str, cwd: str) -> list[str]:
    command = start.command_info
    notes = []
    if kind == KIND_EDIT:
        notes.append(NOTE_EDIT)
    elif shells.take_commands(command["command"], start.argv[1:]):
        notes.append(NOTE_SHELL.format(as_user))
    if "chroot" in command:  # links there lead elsewhere than here
        notes.append(f"who can change programs below {command['chroot']} was not checked")
    elif kind != KIND_EDIT and (culprit := _changeable_program(command, cwd)):
        notes.append(f"others than root can change {culprit}")
    if command.get("cwd_optional") == "true" and not os.path.isdir(cwd):
        notes.append(f"if it cannot go there, it runs in {start.user_info.get('cwd', '')}")
    for name in ("selinux_role", "selinux_type", "apparmor_profile"):
        if name in command:
            notes.append(f"{name} {command[name]}")
    if "preserve_fds" in command or int(command.get("closefrom", _USUAL_CLOSEFROM)) > _USUAL_CLOSEFROM:
        notes.append("it gets open files of the caller")
    if "timeout" in command:
        notes.append(f"it is ended after {command['timeout']} s")
    for name in _LIMITS:
        limit = start.user_info.get(f"rlimit_{name}", "infinity").partition(",")[0]
        if limit != "infinity" and command.get(f"rlimit_{name}", "user") == "user":
            notes.append(f"a limit of the caller holds: {name} {limit}")
    return notes


def _changeable_program(command: dict[str, str], cwd: str) -> str:
    """Return what others than root can change on the way to the program, or the program; empty if nothing."""
    path = command["command"]
    if not path.startswith("/"):  # from the directory in which it runs
        if not cwd.startswith("/"):
            return path
        path = os.path.join(cwd, path.removeprefix("./"))
    try:
        with CheckedWalk(path):
            return ""
    except InsecureFile as error:
        return error.path
    except (UnusableFile, OSError):
        return path
