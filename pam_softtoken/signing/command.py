"""What sudo is about to do, as a statement. Reads the host's accounts and the owners of the program's directories.

sudo decides what runs. This only says it: all of what sudo passes on is in the statement, or in the short list of what
changes nothing.
"""

from __future__ import annotations

import os
import pwd

from pam_softtoken.otp.statement import Statement

TYPE_CHECKING = False
if TYPE_CHECKING:
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
_SHELLS = frozenset((
    "sh", "bash", "rbash", "dash", "zsh", "fish", "ksh", "mksh", "csh", "tcsh", "ash", "busybox", "su", "screen",
    "tmux",
))  # fmt: skip
_OTHERS_WRITE = 0o022
_STICKY = 0o1000
_MAX_LINKS = 40
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
    cwd = command.get("cwd") or user.get("cwd", "")
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


def _run_as(command: dict[str, str]) -> tuple[str, pwd.struct_passwd | None]:
    """Return whom the command runs as, in words, and the account."""
    uid, gid = int(command["runas_uid"]), int(command.get("runas_gid", "-1"))
    words, account = _name_of(uid)
    effective = int(command.get("runas_euid", uid))
    if effective != uid:
        words = f"{_name_of(effective)[0]} with the real user {words}"
    if gid not in (-1, account.pw_gid if account is not None else -1):
        words += f":{_group_name(gid)}"
    if command.get("preserve_groups") == "true":
        words += " with the groups of the caller"
    return words, account


def _name_of(uid: int) -> tuple[str, pwd.struct_passwd | None]:
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return f"#{uid}", None
    return account.pw_name, account


def _group_name(gid: int) -> str:
    import grp  # noqa: PLC0415 - few commands name a group

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"#{gid}"


def _telling(start: Start, run: tuple[str, ...], runas: pwd.struct_passwd | None) -> list[str]:
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


def _set_by_sudo(start: Start, runas: pwd.struct_passwd | None) -> dict[str, str]:
    """Return the variables that sudo sets itself. A caller who may set variables can give these other values."""
    user = start.user_info
    usual = {
        "SUDO_USER": user["user"], "SUDO_UID": user.get("uid", ""), "SUDO_GID": user.get("gid", ""),
        "SUDO_TTY": user.get("tty", ""),
    }  # fmt: skip
    caller = _name_of(int(user["uid"]))[1]
    if caller is not None:
        usual["SUDO_HOME"] = caller.pw_dir
    if runas is not None:
        usual |= {
            "HOME": runas.pw_dir, "SHELL": runas.pw_shell or "/bin/sh", "USER": runas.pw_name,
            "LOGNAME": runas.pw_name, "USERNAME": runas.pw_name, "MAIL": f"/var/mail/{runas.pw_name}",
        }  # fmt: skip
    return usual


def _is_harmless(name: str, value: str, usual: dict[str, str]) -> bool:
    if name in _HARMLESS or usual.get(name) == value:
        return True
    if name in _HARMLESS_WORDS or name.startswith("LC_"):
        return "/" not in value and "%" not in value
    return name == "PATH" and bool(value) and _SYSTEM_PATH.issuperset(value.split(":"))


def _notes(start: Start, kind: str, as_user: str, cwd: str) -> list[str]:
    command = start.command_info
    notes = []
    if kind == KIND_EDIT:
        notes.append(NOTE_EDIT)
    elif _is_interactive(command["command"], start.argv[1:]):
        notes.append(NOTE_SHELL.format(as_user))
    culprit = "" if kind == KIND_EDIT else changeable_by_others(command.get("chroot", "") + command["command"])
    if culprit:
        notes.append(f"others than root can change {culprit}")
    if command.get("cwd_optional") == "true" and not os.path.isdir(cwd):
        notes.append(f"if it cannot go there, it runs in {start.user_info.get('cwd', '')}")
    for name in ("selinux_role", "selinux_type", "apparmor_profile"):
        if name in command:
            notes.append(f"{name} {command[name]}")
    if "preserve_fds" in command:
        notes.append("it gets open files of the caller")
    return notes


def _is_interactive(program: str, arguments: tuple[str, ...]) -> bool:
    """Check whether a program is a shell that waits for what is typed."""
    if os.path.basename(program) not in _SHELLS:
        return False
    return all(word[:1] in "-+" and (word.startswith("--") or "c" not in word) for word in arguments)


def changeable_by_others(path: str) -> str:
    """Return what others than root can change on the way to a program, or the program; empty if nothing.

    Links are followed as the kernel follows them, and every directory on the way is looked at.
    """
    waiting, done, links = [part for part in path.split("/") if part], "", 0
    if _is_open("/"):
        return "/"
    while waiting:
        part = waiting.pop(0)
        if part in (".", ".."):
            done = os.path.dirname(done) if part == ".." and done else done
            continue
        step = f"{done}/{part}"
        try:
            target = os.readlink(step)
        except OSError:
            if _is_open(step):
                return step
            done = step
            continue
        links += 1
        if links > _MAX_LINKS:
            return path
        if target.startswith("/"):
            done = ""
        waiting = [part for part in target.split("/") if part] + waiting
    return ""


def _is_open(path: str) -> bool:
    """Check whether others than root can change a file, or what a directory has. What is not there counts as open."""
    try:
        status = os.lstat(path)
    except OSError:
        return True
    is_sticky = bool(status.st_mode & _STICKY) and os.path.isdir(path)
    return status.st_uid != 0 or (bool(status.st_mode & _OTHERS_WRITE) and not is_sticky)
