"""Check whether a user has a public key that sshd would accept. Files are opened as the user, as sshd does."""

from __future__ import annotations

import os
import pwd
import re

from pam_softtoken.account import safe_open, user_lookup, user_path
from pam_softtoken.admin.sshd.match_blocks import MAYBE, NO, YES
from pam_softtoken.errors import PathError, UnusableFile

_MAX_KEY_BYTES = 1024 * 1024
_GROUP_OR_OTHERS_WRITE = 0o022
_KEY_TYPES = re.compile(r"(?:ssh-(?:ed25519|rsa|dss)|ecdsa-sha2-\S+|sk-\S+)$")
_DOUBTFUL = re.compile(r"(?:^|,)(?:from=|expiry-time=|cert-authority)", re.IGNORECASE)


def keys_of(entry: pwd.struct_passwd, pattern: str) -> int:
    """Return whether a user has a public key that sshd would accept. The search runs as the user.

    Args:
        entry: the account.
        pattern: the value of `AuthorizedKeysFile`.
    """
    account = user_lookup.account_of(entry)
    account.look_up_groups()
    tokens = {"%%": "%", "%h": entry.pw_dir, "%u": entry.pw_name, "%U": str(entry.pw_uid)}
    best = NO
    for word in pattern.split():
        if word == "none":
            continue
        path = re.sub("%[%huU]", lambda match: tokens[match[0]], word)
        path = path if path.startswith("/") else f"{entry.pw_dir}/{path}"
        best = max(best, _keys_in(path, account))
    return best


def _keys_in(path: str, account: safe_open.Account) -> int:
    with safe_open.AsUser(account):
        if not os.access(path, os.R_OK, effective_ids=True):
            return NO
    try:
        descriptor = user_path.NamedFiles(account).open(path)
    except PathError:
        return MAYBE
    try:
        if not _is_trusted(path, os.fstat(descriptor), account):
            return MAYBE  # sshd refuses it, unless StrictModes is off
        text = safe_open.read(descriptor, _MAX_KEY_BYTES, path=path).decode("utf-8", "replace")
    except (OSError, UnusableFile):
        return MAYBE
    finally:
        os.close(descriptor)
    return max((key_line(line) for line in text.splitlines()), default=NO)


def _is_trusted(path: str, status: os.stat_result, account: safe_open.Account) -> bool:
    """Check the file and the directories above it, up to the home directory, as sshd does with `StrictModes`."""
    real, home = os.path.realpath(path), os.path.realpath(account.home)
    while True:
        if status.st_uid not in (0, account.uid) or status.st_mode & _GROUP_OR_OTHERS_WRITE:
            return False
        if real in (home, "/"):
            return True
        real = os.path.dirname(real)
        try:
            status = os.stat(real)
        except OSError:
            return False


def key_line(line: str) -> int:
    """Return whether a line of `authorized_keys` has a key: `MAYBE` if its options restrict when it counts."""
    text = line.strip()
    if not text or text.startswith("#"):
        return NO
    first, _, rest = text.partition(" ")
    if _KEY_TYPES.match(first):
        return YES if rest.strip() and first != "ssh-dss" else NO
    quoted = re.match(r'((?:[^\s"]|"(?:\\.|[^"\\])*")+)\s+(\S+)\s+\S', text)
    if quoted is None or not _KEY_TYPES.match(quoted[2]) or quoted[2] == "ssh-dss":
        return NO
    return MAYBE if _DOUBTFUL.search(quoted[1]) else YES
