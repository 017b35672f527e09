"""Read sshd's configuration files to find where its settings are, with their includes and Match blocks.

`sshd -T` says which value counts; this module says where it stands. Pure: the texts come from a `Reader`.
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
"""sshd's authentication methods, and the settings that turn them on."""
LOGIN_SETTINGS = {
    "kbdinteractiveauthentication": "KbdInteractiveAuthentication",
    "passwordauthentication": "PasswordAuthentication",
    "authenticationmethods": "AuthenticationMethods",
}
"""The settings that decide which of these ask for a code, as people write them."""
ASKING = "keyboard-interactive"
"""The method in which PAM can ask any question."""
_MOST_LEVELS = 16  # as in sshd
_LONGEST_QUOTED = 16 * 1024
"""The time that `shlex` takes grows with the square of a word's length. No setting of sshd has so long a line."""
_KBD = "kbdinteractiveauthentication"
_ALIASES = {"challengeresponseauthentication": _KBD, "skeyauthentication": _KBD}
Reader = Callable[[str], "str | None"]
"""Return the text of a file by its absolute path; None if it does not exist."""
Expander = Callable[[str], "list[str]"]
"""Return the files that match a pattern with wildcards, in order."""


class Directive(NamedTuple):
    """One setting.

    Args:
        file, number: the file and the line number.
        text: the line.
        name: its present name, in lower case.
        value: its words, joined by one space.
        condition: the Match line above it; empty if it is outside Match blocks.
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
    """Read all settings in sshd's order. The first one of a name counts."""
    return list(_directives(file, reader, expand, "", 0))


def _directives(file: str, reader: Reader, expand: Expander, condition: str, level: int) -> Iterator[Directive]:
    for number, line in enumerate((reader(file) or "").split("\n"), 1):
        words = _words(line)
        if not words:
            continue
        name = words[0].lower()
        if name == "match":
            # "Match all" is a condition, too: the settings under it still go before those outside.
            condition = " ".join(f'"{word}"' if re.search(r"[\s']", word) else word for word in words)
        elif name == "include":
            for pattern in words[1:] if level < _MOST_LEVELS else ():
                path = pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}"
                for each in expand(path):
                    # A Match block ends with its file.
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
    if len(rest) > _LONGEST_QUOTED:
        return [name[0], *rest.split()]
    lexer = shlex.shlex(rest, posix=True)
    lexer.whitespace_split, lexer.escape = True, ""  # in sshd a backslash stands for itself, as in CORP\\alice
    try:
        return [name[0], *lexer]
    except ValueError:
        return [name[0], *rest.split()]
