"""sshd's part of a change: a file of ours beside its configuration, tried with `sshd -T` before it is in place."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pam_softtoken.admin import bounded, sshd_config
from pam_softtoken.admin.ssh_match import Names, Peer, responsible
from pam_softtoken.admin.sshd_config import ASKING, METHODS, Directive
from pam_softtoken.errors import AdministrationFailed

SERVICE = "sshd"
PROGRAM = "/usr/sbin/sshd"
CONFIG = sshd_config.FILE
DIRECTORY = "/etc/ssh/sshd_config.d"
DROP_IN = f"{DIRECTORY}/00-softtoken.conf"
"""Early in the alphabet, because of several settings of one thing sshd takes the first."""
_SETTINGS = {"UsePAM": "yes", "KbdInteractiveAuthentication": "yes", "PasswordAuthentication": "no"}
_METHODS = "AuthenticationMethods"
_WITHOUT_PAM = ("publickey", "hostbased", "gssapi-with-mic")
_LISTS = ("allowusers", "denyusers", "allowgroups", "denygroups")
_HEAD = "# By softtoken-admin enable sshd; softtoken-admin disable sshd takes it away."
_WAIT_S = 30
_LISTENER_TRIES, _PAUSE_S = 50, 0.1
_PARTS = (
    PROGRAM,
    *(f"/usr/{place}/openssh/sshd-{part}" for place in ("lib", "libexec") for part in ("session", "auth")),
)
"""Since OpenSSH 9.8 connections have programs of their own."""
_UNFINISHED = re.compile(rb"\[(?:accepted|net|preauth)\]|\0-(?:[a-zA-Z0-9]*R)(?:\0|$)")
"""In the command line of a process that serves somebody who has not logged in yet."""


def settings_for(way: str, today: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that ask for a code behind the password or behind the public key.

    No list of methods becomes shorter by that: what is needed today is needed then, too.

    Args:
        way: `password` or `publickey`.
        today: the settings of users whom no condition selects, names in lower case.
    """
    methods = today.get("authenticationmethods", "any")
    if way == "publickey":
        enabled = [[method] for method, name in METHODS.items() if today.get(name) == "yes"]
        lists = enabled if methods == "any" else [each.split(",") for each in methods.split()]
        keyed = [[method for method in each if method in _WITHOUT_PAM] for each in lists]
        wanted = [",".join([*each, ASKING]) for each in keyed if each]
        return {**_SETTINGS, _METHODS: " ".join(dict.fromkeys(wanted)) or f"publickey,{ASKING}"}
    if methods == "any":
        return dict(_SETTINGS)
    named = [
        ",".join(dict.fromkeys(ASKING if method == "password" else method for method in each.split(",")))
        for each in methods.split()
    ]
    return {**_SETTINGS, _METHODS: " ".join(dict.fromkeys(named))}


def drop_in(settings: Mapping[str, str], further: Iterable[str] = ()) -> bytes:
    """Write the file.

    Args:
        settings: of everybody.
        further: lines behind them.
    """
    lines = [*(f"{name} {value}" for name, value in settings.items()), *further]
    return "\n".join([_HEAD, *lines, ""]).encode()


def is_drop_in(content: bytes | None) -> bool:
    """Check whether a file is one that `drop_in` has written, with whatever settings."""
    return content is not None and content.startswith(_HEAD.encode() + b"\n")


def read_directives(new: bytes | None = None) -> list[Directive]:
    """Read sshd's configuration for the places of its settings.

    Args:
        new: stands in for our file.
    """
    reading = bounded.Reading()

    def expand(pattern: str) -> list[str]:
        beside = [DROP_IN] if new is not None and fnmatch.fnmatch(DROP_IN, pattern) else []
        return sorted({*glob.glob(pattern), *beside})

    def read(path: str) -> str | None:
        return new.decode() if new is not None and path == DROP_IN else reading.text(path)

    return sshd_config.read(read, expand)


@contextmanager
def staged(new: bytes | None) -> Iterator[str]:
    """Write the configuration as it would be, for the length of the block, and give its file.

    Args:
        new: our file in it; None for a configuration without one.
    """
    with tempfile.TemporaryDirectory(prefix="softtoken-sshd-", dir="/run") as place:
        yield str(_stage(place, new))


def require_effect(settings: Mapping[str, str], usual: Mapping[str, str], directives: list[Directive]) -> None:
    """Check that our settings are those that count, but for what a condition changes.

    Args:
        settings: ours.
        usual: all settings as they would be, names in lower case.
        directives: where they would stand.

    Raises:
        AdministrationFailed: they are not.
    """
    nobody, anywhere = Names("", ()), Peer("", "192.0.2.77", "192.0.2.77")
    for spelt, value in settings.items():
        name = spelt.lower()
        first = responsible(directives, name, nobody, anywhere)
        if usual.get(name) != value and not (first is not None and first.condition):
            raise AdministrationFailed(
                f"sshd would not go by our file {DROP_IN}: {name} would be {usual.get(name, 'unset')}, "
                f"not {value}; {_culprit(name, directives)}",
                hint=f"in {CONFIG}, let this be the first line: Include {DIRECTORY}/*.conf",
            )


def _stage(place: str, new: bytes | None) -> Path:
    config = Path(place) / "sshd_config"
    beside = Path(place) / "sshd_config.d"
    beside.mkdir()
    for path in sorted({*glob.glob(f"{DIRECTORY}/*.conf")} - {DROP_IN}):
        (beside / os.path.basename(path)).write_bytes(Path(path).read_bytes())
    if new is not None:
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
    return config


def ask(*arguments: str) -> dict[str, str]:
    """Ask sshd what counts, as `sshd -T` does.

    Raises:
        AdministrationFailed: it refuses its configuration, or cannot be run.
    """
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
        said = [line for line in done.stderr.strip().splitlines() if ": terminating, " not in line]
        why = (said or ["no reason given"])[-1]
        raise AdministrationFailed(
            f"sshd refuses its configuration: {why}", hint="sshd -t shows it; put it right first"
        )
    return parse(done.stdout)


def port_option() -> str:
    """Return what the command `ssh` needs to find this host's sshd: `-p PORT ` or, for the usual port, ""."""
    try:
        address = ask("-T").get("listenaddress", "")
    except AdministrationFailed:
        return ""
    found = re.search(r":(\d+)$", address)
    return f"-p {found[1]} " if found and found[1] != "22" else ""


def parse(text: str) -> dict[str, str]:
    """Read what `sshd -T` writes; of a list that has a line for each value all of them are joined."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        name = name.lower()
        found[name] = f"{found[name]} {value}" if name in _LISTS and name in found else value
    return found


def _culprit(name: str, directives: list[Directive]) -> str:
    if not any(each.file == DROP_IN for each in directives):
        return f"{CONFIG} does not include {DIRECTORY}"
    first = next((each for each in directives if each.name == name and not each.condition), None)
    return f"{first.place} comes first" if first is not None else "something else comes first"


def require_would_follow(new: bytes | None) -> None:
    """Check that sshd would accept its configuration with other bytes in our file, and can be told to reload it.

    Args:
        new: our file; None for a configuration without one.

    Raises:
        AdministrationFailed: it would not, or cannot.
    """
    ask("-T")  # what is wrong beside our file is named by its own place
    try:
        with staged(new) as config:
            effective = ask("-T", "-f", config)
    except OSError as error:
        why = f"{error.filename}: {os.strerror(error.errno or 0)}" if error.filename else str(error)
        raise AdministrationFailed(
            f"sshd's configuration cannot be tried: {why}", hint="make room in /run, and see to the files in /etc/ssh"
        ) from None
    _require_told(effective, _listening())


def reload() -> str:
    """Make sshd reload its configuration, if it accepts it.

    Returns:
        What was done, for the person.

    Raises:
        AdministrationFailed: it cannot be done; sshd goes on with what it has.
    """
    effective = ask("-T")
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
    while before is not None and _pid_file(effective) in (None, before):
        if time.monotonic() > started + _WAIT_S:
            raise AdministrationFailed(
                f"sshd has not reloaded its configuration within {_WAIT_S} s", hint="restart it: systemctl restart ssh"
            )
        time.sleep(_PAUSE_S)
    return "sshd reloaded its configuration."


def end_unfinished() -> None:
    """End the connections of those who have not logged in yet: they go by the configuration of when they began.

    Raises:
        AdministrationFailed: one does not end.
    """
    unfinished = [place for place in glob.glob("/proc/[0-9]*") if _is_unfinished(place)]
    for place in unfinished:
        with suppress(ProcessLookupError):
            os.kill(int(os.path.basename(place)), signal.SIGKILL)
    started = time.monotonic()
    while any(map(_is_unfinished, unfinished)):
        if time.monotonic() > started + _WAIT_S:
            raise AdministrationFailed(
                "a connection from before the change does not end, and would get in without a key",
                hint="restart sshd, then start again",
            )
        time.sleep(_PAUSE_S)


def _is_unfinished(process: str) -> bool:
    """Check whether a process, by its place in /proc, serves somebody at sshd who has not logged in yet."""
    try:
        if not _runs(process, _PARTS):
            return False
        command = Path(f"{process}/cmdline").read_bytes()
        if _UNFINISHED.search(command):
            return True
        # Just forked, it still has the name of the one that waits for connections.
        return b"[listener]" in command and _listens(f"/proc/{_parent(process)}")
    except (OSError, ValueError, IndexError):
        return False


def _parent(process: str) -> str:
    return Path(f"{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]


def _pid_file(effective: dict[str, str]) -> tuple[int, int] | None:
    """Return what distinguishes a running sshd's PidFile from an earlier or later one; None when there is none."""
    try:
        path = Path(effective.get("pidfile", "/run/sshd.pid"))
        status = path.stat()
        return (status.st_ino, status.st_mtime_ns) if _listens(f"/proc/{int(path.read_text())}") else None
    except (OSError, ValueError):
        return None


def require_obedient(effective: dict[str, str]) -> None:
    """Check that no sshd goes on with the configuration that it has now.

    Args:
        effective: all settings, names in lower case.

    Raises:
        AdministrationFailed: one runs that cannot be told to read it anew.
    """
    listening = _listening()
    told = _require_told(effective, listening)
    others = [os.path.basename(each) for each in listening if told and each != f"/proc/{told}"]
    if others:
        raise AdministrationFailed(
            f"another sshd runs (process {', '.join(others)}), where a code without a key could get in: PAM's service "
            "is the same, the configuration is not",
            hint=f"stop it, and let it not come back, or let one sshd listen on all ports ({CONFIG})",
        )


def _listening() -> list[str]:
    """Return the processes, by their places in /proc, that wait for connections as sshd."""
    return [each for each in glob.glob("/proc/[0-9]*") if _listens(each) and not _is_unfinished(each)]


def _require_told(effective: dict[str, str], listening: list[str]) -> int:
    """Return which process is told to reload its configuration; 0 where none runs, or systemd tells it.

    Raises:
        AdministrationFailed: one runs that cannot be told.
    """
    if not listening or (len(listening) == 1 and _active_units()):
        return 0
    try:
        return _listener(effective)
    except (OSError, ValueError):
        raise AdministrationFailed(
            "sshd runs and cannot be told to read its configuration anew, so it and PAM would not change together",
            hint="start it with a PidFile in its configuration, or stop it for as long as this takes",
        ) from None


def _active_units() -> list[str]:
    if not os.path.isdir("/run/systemd/system"):
        return []
    # One that is still to be started, after us, would let us wait for it in vain.
    return [unit for unit in ("ssh.service", "sshd.service") if _systemctl("is-active", "--quiet", unit)]


def _listener(effective: dict[str, str]) -> int:
    """Return the process that sshd has put into its PidFile, or raise ValueError when there is none."""
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
    """Check whether a process, by its place in /proc, waits for connections as sshd."""
    try:
        return _is_sshd(process) and b"[listener]" in Path(f"{process}/cmdline").read_bytes()
    except OSError:
        return False


def _is_sshd(process: str) -> bool:
    """Check whether a process, by its place in /proc, is sshd, here and not in some container."""
    return _runs(process, (PROGRAM,))


def _runs(process: str, programs: Iterable[str]) -> bool:
    """Check whether a process, by its place in /proc, runs one of some programs, here and not in some container."""
    try:
        status = os.stat(f"{process}/exe")
        is_here = os.path.samefile(f"{process}/ns/mnt", "/proc/self/ns/mnt")
    except OSError:
        return False
    return is_here and any(os.path.samestat(status, os.stat(each)) for each in programs if os.path.exists(each))


def _systemctl(*words: str) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            ["/usr/bin/systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_WAIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
