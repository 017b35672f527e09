"""sshd's part of a change: a file of ours beside its configuration, tried with `sshd -T` before it is in place."""

from __future__ import annotations

import glob
import os
import re
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from pam_softtoken.errors import AdministrationFailed

SERVICE = "sshd"
PROGRAM = "/usr/sbin/sshd"
CONFIG = "/etc/ssh/sshd_config"
DIRECTORY = "/etc/ssh/sshd_config.d"
DROP_IN = f"{DIRECTORY}/00-softtoken.conf"
"""Early in the alphabet, because of several settings of one thing sshd takes the first."""
_PASSWORD = {"UsePAM": "yes", "KbdInteractiveAuthentication": "yes", "PasswordAuthentication": "no"}
_PUBLIC_KEY = {**_PASSWORD, "AuthenticationMethods": "publickey,keyboard-interactive"}
_OTHER_NAMES = {"challengeresponseauthentication": "kbdinteractiveauthentication"}
_WAIT_S = 30
_LISTENER_TRIES, _PAUSE_S = 50, 0.1


def settings_for(way: str) -> dict[str, str]:
    """Give the settings that ask for a code behind the password or behind the public key."""
    return _PUBLIC_KEY if way == "publickey" else _PASSWORD


def drop_in(way: str) -> bytes:
    """Write the file."""
    lines = [f"{name} {value}" for name, value in settings_for(way).items()]
    return "\n".join(
        ["# By softtoken-admin enable sshd; softtoken-admin disable sshd takes it away.", *lines, ""]
    ).encode()


def require_effect(way: str) -> dict[str, str]:
    """Try the new configuration: sshd reads it, and our settings are those that count.

    Returns:
        All settings as they would be, names in lower case.

    Raises:
        AdministrationFailed: it does not, or they are not.
    """
    with tempfile.TemporaryDirectory(prefix="softtoken-sshd-", dir="/run") as place:
        effective = _effective(place, drop_in(way))
    wanted = {name.lower(): value for name, value in settings_for(way).items()}
    for name, value in wanted.items():
        if effective.get(name) != value:
            raise AdministrationFailed(
                f"sshd would not go by our file {DROP_IN}: {name} would be {effective.get(name, 'unset')}, "
                f"not {value}; {_culprit(name)}",
                hint=f"in {CONFIG}, let this be the first line: Include {DIRECTORY}/*.conf",
            )
    return effective


def blocks_of_their_own(way: str) -> list[str]:
    """Name the lines inside `Match` that set, for some people, what we set for all."""
    names = {name.lower() for name in settings_for(way)}
    return [f"{place}: {line}" for place, line, inside in _lines() if inside and _name_of(line) in names]


def _effective(place: str, new: bytes) -> dict[str, str]:
    config = Path(place) / "sshd_config"
    beside = Path(place) / "sshd_config.d"
    beside.mkdir()
    for path in sorted(glob.glob(f"{DIRECTORY}/*.conf")):
        (beside / os.path.basename(path)).write_bytes(Path(path).read_bytes())
    (beside / os.path.basename(DROP_IN)).write_bytes(new)
    try:
        text = Path(CONFIG).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise AdministrationFailed(f"{CONFIG}: {os.strerror(error.errno or 0)}", hint="is sshd installed?") from None
    # `Include sshd_config.d/*.conf` is seen from /etc/ssh.
    text = re.sub(
        rf"(?im)^(\s*Include\b.*?)(?:{re.escape(DIRECTORY)}|(?<![\w/.])sshd_config\.d)/",
        lambda match: f"{match[1]}{beside}/",
        text,
    )
    config.write_text(text, encoding="utf-8", errors="surrogateescape")
    return _ask_sshd("-T", "-f", str(config))


def _ask_sshd(*arguments: str) -> dict[str, str]:
    if not os.path.isdir("/run/sshd"):
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd -t wants it, and its unit makes it only when it runs
        os.chmod("/run/sshd", 0o755)  # noqa: S103
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            [PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_WAIT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AdministrationFailed(f"{PROGRAM} cannot be run: {error}", hint="is openssh-server installed?") from None
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise AdministrationFailed(
            f"sshd refuses its configuration: {why}", hint="sshd -t shows it; put it right first"
        )
    pairs = (line.partition(" ")[::2] for line in done.stdout.splitlines())
    return {name.lower(): value for name, value in pairs}


def port_option() -> str:
    """Return what the command `ssh` needs to find this host's sshd: `-p PORT ` or, for the usual port, ""."""
    try:
        address = _ask_sshd("-T").get("listenaddress", "")
    except AdministrationFailed:
        return ""
    found = re.search(r":(\d+)$", address)
    return f"-p {found[1]} " if found and found[1] != "22" else ""


def _culprit(name: str) -> str:
    included = any(
        _name_of(line) == "include" and "sshd_config.d" in line for place, line, inside in _lines() if not inside
    )
    if not included:
        return f"{CONFIG} does not include {DIRECTORY}"
    for place, line, inside in _lines():
        if not inside and _name_of(line) == name:
            return f"{place} comes first"
    return "something else comes first"


def _name_of(line: str) -> str:
    name = re.split(r"[\s=]", line, maxsplit=1)[0].lower()
    return _OTHER_NAMES.get(name, name)


def _lines() -> list[tuple[str, str, bool]]:
    """Give the settings as sshd comes to them: place, text, whether inside a `Match`."""
    found: list[tuple[str, str, bool]] = []

    def walk(path: str, inside: bool, depth: int) -> bool:
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return inside
        for number, line in enumerate(text.splitlines(), 1):
            content = line.strip()
            if not content or content.startswith("#"):
                continue
            if _name_of(content) == "match":
                inside = content.split()[1:2] != ["all"]
            found.append((f"{path}:{number}", content, inside))
            if _name_of(content) == "include" and depth < 16:
                for pattern in content.split()[1:]:
                    for each in sorted(glob.glob(os.path.join("/etc/ssh", pattern))):
                        walk(each, inside, depth + 1)
        return inside

    walk(CONFIG, False, 0)
    return found


def reload() -> str:
    """Have sshd read its configuration anew, when it is one that it accepts.

    Returns:
        What was done, for the person.

    Raises:
        AdministrationFailed: it cannot be done; sshd goes on with what it has.
    """
    effective = _ask_sshd("-T")
    before = _pid_file(effective)
    if not any(_systemctl("reload", unit) for unit in _active_units()):
        try:
            listener = _listener(effective)
            before = _pid_file(effective)
            os.kill(listener, signal.SIGHUP)
        except (OSError, ValueError):
            return "No sshd runs that could be told; one that is started from now on goes by the new configuration."
    # Until it has made that file anew, nobody can connect.
    started = time.monotonic()
    while before is not None and _pid_file(effective) in (None, before) and time.monotonic() < started + _WAIT_S:
        time.sleep(_PAUSE_S)
    return "sshd has read its configuration anew."


def _pid_file(effective: dict[str, str]) -> tuple[int, int] | None:
    """Tell sshd's PidFile from an earlier and a later one; None when there is none."""
    try:
        status = os.stat(effective.get("pidfile", "/run/sshd.pid"))
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def require_obedient(effective: dict[str, str]) -> None:
    """Make sure that no sshd goes on with the configuration that it has now.

    Args:
        effective: all settings, names in lower case.

    Raises:
        AdministrationFailed: one runs that cannot be told to read it anew.
    """
    if _active_units() or not any(map(_listens, glob.glob("/proc/[0-9]*"))):
        return
    try:
        _listener(effective)
    except (OSError, ValueError):
        raise AdministrationFailed(
            "sshd runs and cannot be told to read its configuration anew, so a code without a key would get in",
            hint="start it with a PidFile in its configuration, or stop it for as long as this takes",
        ) from None


def _active_units() -> list[str]:
    if not os.path.isdir("/run/systemd/system"):
        return []
    # One that is still to be started, after us, would let us wait for it in vain.
    return [unit for unit in ("ssh.service", "sshd.service") if _systemctl("is-active", "--quiet", unit)]


def _listener(effective: dict[str, str]) -> int:
    """Give the process that sshd has put into its PidFile, or raise ValueError when there is none."""
    for _ in range(_LISTENER_TRIES):
        with suppress(OSError, ValueError):
            pid = int(Path(effective.get("pidfile", "/run/sshd.pid")).read_text())
            if _listens(f"/proc/{pid}"):
                return pid
        if not any(map(_is_sshd, glob.glob("/proc/[0-9]*"))):
            break
        # While it reads its configuration anew, it has no PidFile, and a signal would be lost.
        time.sleep(_PAUSE_S)
    raise ValueError("no sshd that could be told")


def _listens(process: str) -> bool:
    """Tell whether a process, by its place in /proc, waits for connections as sshd."""
    try:
        return _is_sshd(process) and b"[listener]" in Path(f"{process}/cmdline").read_bytes()
    except OSError:
        return False


def _is_sshd(process: str) -> bool:
    """Tell whether a process, by its place in /proc, is sshd, here and not in some container."""
    try:
        return os.path.samefile(f"{process}/exe", PROGRAM) and os.path.samefile(
            f"{process}/ns/mnt", "/proc/self/ns/mnt"
        )
    except OSError:
        return False


def _systemctl(*words: str) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            ["/usr/bin/systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_WAIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
