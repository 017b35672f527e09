"""Handle sshd's part of a change: our file in its configuration, checked with `sshd -T` before it is in place."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pam_softtoken.admin.common import bounded, child
from pam_softtoken.admin.sshd import config_lines
from pam_softtoken.admin.sshd.config_lines import ASKING, METHODS, Directive
from pam_softtoken.admin.sshd.match_blocks import Names, Peer, responsible
from pam_softtoken.program_errors import AdministrationFailed

SERVICE = "sshd"
PROGRAM = "/usr/sbin/sshd"
CONFIG = config_lines.FILE
DIRECTORY = "/etc/ssh/sshd_config.d"
DROP_IN = f"{DIRECTORY}/00-softtoken.conf"
"""The name sorts early, because sshd uses the first of several values of a setting."""
_SETTINGS = {"UsePAM": "yes", "KbdInteractiveAuthentication": "yes", "PasswordAuthentication": "no"}
_METHODS = "AuthenticationMethods"
_WITHOUT_PAM = ("publickey", "hostbased", "gssapi-with-mic")
_LISTS = ("allowusers", "denyusers", "allowgroups", "denygroups")
_HEAD = "# By softtoken-admin enable sshd; softtoken-admin disable sshd takes it away."
_WAIT_S = 30


def settings_for(way: str, today: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that ask for a code after the password or after the public key.

    No list of methods becomes shorter. Every proof that is needed today is still needed.

    Args:
        way: `password` or `publickey`.
        today: the settings of users whom no Match block selects, names in lower case.
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
    """Return the content of our file.

    Args:
        settings: the settings for all users.
        further: the lines after them.
    """
    lines = [*(f"{name} {value}" for name, value in settings.items()), *further]
    return "\n".join([_HEAD, *lines, ""]).encode()


def is_drop_in(content: bytes | None) -> bool:
    """Check whether `drop_in` has written a file, with any settings."""
    return content is not None and content.startswith(_HEAD.encode() + b"\n")


def read_directives(new: bytes | None = None) -> list[Directive]:
    """Read sshd's configuration to find where its settings are.

    Args:
        new: replaces our file.
    """
    reading = bounded.Reading()

    def expand(pattern: str) -> list[str]:
        beside = [DROP_IN] if new is not None and fnmatch.fnmatch(DROP_IN, pattern) else []
        return sorted({*glob.glob(pattern), *beside})

    def read(path: str) -> str | None:
        return new.decode() if new is not None and path == DROP_IN else reading.text(path)

    return config_lines.read(read, expand)


@contextmanager
def staged(new: bytes | None) -> Iterator[str]:
    """Write the planned configuration for the length of the block, and return its file.

    Args:
        new: our file in it; None for a configuration without it.
    """
    with tempfile.TemporaryDirectory(prefix="softtoken-sshd-", dir="/run") as place:
        yield str(_stage(place, new))


def require_effect(settings: Mapping[str, str], usual: Mapping[str, str], directives: list[Directive]) -> None:
    """Check that our settings count, except where a Match block overrides them.

    Args:
        settings: our settings.
        usual: all planned settings, names in lower case.
        directives: the lines of the planned configuration.

    Raises:
        AdministrationFailed: another setting counts.
    """
    nobody, anywhere = Names("", ()), Peer("", "192.0.2.77", "192.0.2.77")
    for spelt, value in settings.items():
        name = spelt.lower()
        first = responsible(directives, name, nobody, anywhere)
        if usual.get(name) != value and not (first is not None and first.condition):
            raise AdministrationFailed(
                f"sshd would not use our file {DROP_IN}: {name} would be {usual.get(name, 'unset')}, "
                f"not {value}; {_culprit(name, directives)}",
                hint=f"in {CONFIG}, let this be the first line: Include {DIRECTORY}/*.conf",
            )


def _stage(place: str, new: bytes | None) -> Path:
    config = Path(place) / "sshd_config"
    beside = Path(place) / "sshd_config.d"
    beside.mkdir()
    for path in sorted({*glob.glob(f"{DIRECTORY}/*.conf")} - {DROP_IN}):
        with suppress(FileNotFoundError):  # a package manager's temporary file
            (beside / os.path.basename(path)).write_bytes(Path(path).read_bytes())
    if new is not None:
        (beside / os.path.basename(DROP_IN)).write_bytes(new)
    try:
        text = Path(CONFIG).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise AdministrationFailed(f"{CONFIG}: {os.strerror(error.errno or 0)}", hint="is sshd installed?") from None
    # `Include sshd_config.d/*.conf` is relative to /etc/ssh.
    text = re.sub(
        rf"(?im)^(\s*Include\b.*?)(?:{re.escape(DIRECTORY)}|(?<![\w/.])sshd_config\.d)/",
        lambda match: f"{match[1]}{beside}/",
        text,
    )
    config.write_text(text, encoding="utf-8", errors="surrogateescape")
    return config


def ask(*arguments: str) -> dict[str, str]:
    """Ask sshd for its effective settings with `sshd -T`.

    Raises:
        AdministrationFailed: sshd refuses its configuration, or cannot be run.
    """
    if not os.path.isdir("/run/sshd"):
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd -t needs it; its unit makes it only when it runs
        os.chmod("/run/sshd", 0o755)  # noqa: S103
    try:
        done = child.run(PROGRAM, *arguments, limit_s=_WAIT_S)
    except (OSError, ValueError) as error:
        raise AdministrationFailed(f"{PROGRAM} cannot be run: {error}", hint="is openssh-server installed?") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.strip().splitlines() if ": terminating, " not in line]
        why = (said or ["no reason given"])[-1]
        raise AdministrationFailed(f"sshd refuses its configuration: {why}", hint="sshd -t shows it; correct it first")
    return parse(done.stdout)


def port_option() -> str:
    """Return the option that `ssh` needs to reach this host's sshd: `-p PORT `, or "" for the default port."""
    try:
        address = ask("-T").get("listenaddress", "")
    except AdministrationFailed:
        return ""
    found = re.search(r":(\d+)$", address)
    return f"-p {found[1]} " if found and found[1] != "22" else ""


def parse(text: str) -> dict[str, str]:
    """Read the output of `sshd -T`. The values of a list, one on each line, are joined."""
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
