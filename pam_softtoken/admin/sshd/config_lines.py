"""sshd's configuration files, read for the places of its settings: what they include, and what a Match makes of them.

What counts in the end says `sshd -T`; this says where it stands. Pure: the texts come from a `Reader`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import NamedTuple

FILE = "/etc/ssh/sshd_config"
METHODS = {
    "publickey": "pubkeyauthentication",
    "gssapi-with-mic": "gssapiauthentication",
    "hostbased": "hostbasedauthentication",
    "password": "passwordauthentication",
    "keyboard-interactive": "kbdinteractiveauthentication",
}
"""sshd's methods, and the settings that turn them on."""
ASKING = "keyboard-interactive"
"""The method with which PAM can ask for anything."""
_MOST_LEVELS = 16  # as in sshd
_KBD = "kbdinteractiveauthentication"
_ALIASES = {"challengeresponseauthentication": _KBD, "skeyauthentication": _KBD}
Reader = Callable[[str], "str | None"]
"""Gives the text of a file by its absolute path, None where there is none."""
Expander = Callable[[str], "list[str]"]
"""Gives the files that a pattern with wildcards stands for, in order."""


class Directive(NamedTuple):
    """One setting.

    Args:
        file, number: where it stands.
        text: the line.
        name: in lower case, by its present name.
        value: its words, joined by one space.
        condition: the line of the Match that it is under; empty when it is for everybody.
    """

    file: str
    number: int
    text: str
    name: str
    value: str
    condition: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}"


def read(reader: Reader, expand: Expander, file: str = FILE) -> list[Directive]:
    """Read all settings, in the order in which sshd does; the first one of a name counts."""
    return list(_directives(file, reader, expand, "", 0))


def _directives(file: str, reader: Reader, expand: Expander, condition: str, level: int) -> Iterator[Directive]:
    for number, line in enumerate((reader(file) or "").split("\n"), 1):
        words = _words(line)
        if not words:
            continue
        name = words[0].lower()
        if name == "match":
            # "Match all" is a condition, too: what is under it still goes before what is not.
            condition = " ".join(f'"{word}"' if re.search(r"[\s']", word) else word for word in words)
        elif name == "include":
            for pattern in words[1:] if level < _MOST_LEVELS else ():
                path = pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}"
                for each in expand(path):
                    # A Match ends with the file that it is in.
                    yield from _directives(each, reader, expand, condition, level + 1)
        else:
            yield Directive(file, number, line.strip(), _ALIASES.get(name, name), " ".join(words[1:]), condition)


def _words(line: str) -> list[str]:
    text = line.strip()
    if not text or text.startswith("#"):
        return []
    name = text.replace("=", " ", 1).split(None, 1) if "=" in text.split(None, 1)[0] else text.split(None, 1)
    rest = name[1].strip() if len(name) > 1 else ""
    rest = rest[1:] if rest.startswith("=") else rest
    lexer = shlex.shlex(rest, posix=True)
    lexer.whitespace_split, lexer.escape = True, ""  # to sshd a backslash is one, as in CORP\\alice
    try:
        return [name[0], *lexer]
    except ValueError:
        return [name[0], *rest.split()]
