"""Find other ways to become root than sudo, where sudo asks for signatures: these ask for none."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator

from pam_softtoken import platform_facts
from pam_softtoken.account import entries
from pam_softtoken.admin.access import host_facts
from pam_softtoken.admin.common import bounded
from pam_softtoken.admin.common.finding import NOTE, Finding, named
from pam_softtoken.admin.sshd import match_blocks

POLKITS = ("/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd", "/usr/libexec/polkit-1/polkitd")
RULES = ("/etc/polkit-1/rules.d", "/run/polkit-1/rules.d", "/usr/local/share/polkit-1/rules.d",
         "/usr/share/polkit-1/rules.d")  # fmt: skip
"""polkit reads the files of all of them in the order of their names, and of two with one name first the one listed
first here. Source: polkit(8).
"""
RULE = 'polkit.addAdminRule(function() { return ["unix-user:root"]; });'
"""With this as the first rule, polkit asks for root's password, and not for that of an administrator."""
_RULE_FILE = f"{RULES[0]}/00-softtoken-sign.rules"
DOASES, DOAS_CONF = ("/usr/bin/doas", "/usr/local/bin/doas"), "/etc/doas.conf"
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_IDENTITY = re.compile(r"unix-(?:user|group|netgroup):[^\"']+")
_UNTIL = "; an upgrade of its package gives the bit back"


def check() -> Iterator[Finding]:
    """Report each way that is open."""
    yield from _polkit()
    yield from _doas()
    yield from _su()


def _polkit() -> Iterator[Finding]:
    found = next(filter(os.path.exists, POLKITS), "")
    administrators = _administrators() if found else []
    if administrators:
        what = (
            "polkit gives root without a signature, as with pkexec, run0 or systemd-run, to "
            f"{named(administrators)}; with the rule below it asks for root's own password"
        )
        mend = f"printf '%s\\n' {shlex.quote(RULE)} | install -m 644 /dev/stdin {_RULE_FILE}"
        yield Finding(NOTE, found, "", what, mend)


def _administrators() -> list[str]:
    """Return whom polkit takes for administrators, as its rules name them. A rule in force hides those below it."""
    files = [(name, order, f"{path}/{name}") for order, path in enumerate(RULES) for name in entries.names_in(path)]
    named_by_rules: list[str] = []
    for name, _, path in sorted(files):
        text = _text_of(path) if name.endswith(".rules") else ""
        if text.strip() == RULE:
            break
        if "addAdminRule" in text:
            named_by_rules += _IDENTITY.findall(text)
    return [each for each in dict.fromkeys(named_by_rules) if each not in ("unix-user:root", "unix-user:0")]


def _text_of(path: str) -> str:
    try:
        return _COMMENT.sub("", bounded.read(path))
    except OSError:
        return ""


def _doas() -> Iterator[Finding]:
    permits = [line for line in _lines_of(DOAS_CONF) if line.split()[:1] == ["permit"]]
    for path in filter(_is_set_uid, DOASES) if permits else ():
        what = f"doas gives root without a signature{_UNTIL}"
        yield Finding(NOTE, path, permits[0], what, f"chmod u-s {path}")


def _lines_of(path: str) -> list[str]:
    try:
        return [line.strip() for line in bounded.read(path).splitlines()]
    except OSError:
        return []


def _su() -> Iterator[Finding]:
    root = host_facts.read_shadow().get("root")
    if root is None or root.password != match_blocks.YES:
        return
    for path in dict.fromkeys(map(os.path.realpath, platform_facts.SU)):
        if _is_set_uid(path):
            what = f"su gives root without a signature to those who know root's password{_UNTIL}"
            yield Finding(NOTE, path, "", what, f"chmod u-s {path}")


def _is_set_uid(path: str) -> bool:
    status = entries.status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode) and bool(status.st_mode & stat.S_ISUID)
