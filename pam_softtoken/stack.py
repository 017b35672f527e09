"""What the host's PAM configuration says about a service, for the one question that decides whether somebody may enrol
in a login: could the line of our module be reached, or passed by, without a first factor?

Read only when that question comes up. It can only make the answer "no" more often: whatever cannot be understood here
is no reason to let anybody enrol.

Source: pam.conf(5), for how lines are continued, commented, included and put into brackets.
"""

from __future__ import annotations

import os

from pam_softtoken import files
from pam_softtoken.errors import ConfigError

DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d")
"""Where libpam looks for the file of a service, in this order."""
MAX_DEPTH = 16
_FEWEST_WORDS = {"auth": 3, "account": 3, "password": 3, "session": 3, "@include": 2}
_OURS = "pam_softtoken"
_REFUSING = ("required", "requisite")
_ALWAYS_GOES_ON = ("required", "requisite", "optional")
_FORMALITIES = frozenset(
    f"pam_{name}.so"
    for name in (
        "access", "cap", "echo", "env", "exec", "faildelay", "faillock", "group", "issue", "keyinit", "lastlog",
        "limits", "listfile", "localuser", "loginuid", "mail", "motd", "nologin", "permit", "rootok", "securetty",
        "shells", "succeed_if", "tally2", "time", "umask", "usertype", "warn", "wheel",
    )
)  # fmt: skip
"""Modules that say yes without having seen a password or the like, so that they are no first factor."""


class Line:
    """A line of a stack.

    Args:
        control: one word, or what stands in brackets.
        module: without its directory.
        arguments: of the module.
    """

    __slots__ = ("arguments", "control", "module")

    def __init__(self, control: str, module: str, arguments: tuple[str, ...]) -> None:
        self.control = control
        self.module = module
        self.arguments = arguments

    @property
    def is_ours(self) -> bool:
        """Whether it names our module, or has pam_python run it."""
        return self.module.startswith(_OURS) or any(_OURS in word for word in self.arguments[:1])

    @property
    def refuses(self) -> bool:
        """Whether a failure of its module keeps everybody out."""
        return self.control in _REFUSING or "default=die" in self.control or "default=bad" in self.control


def require_that_enrolment_is_safe(service: str, *, factor_seen_by_host: bool) -> None:
    """Make sure that a service is set up so that somebody who is ignored at our `auth` line does not slip through.

    Args:
        service: its name, `PAM_SERVICE`.
        factor_seen_by_host: the application itself has checked a first factor, and modules need not.

    Raises:
        ConfigError: it is not, or nobody can tell.
    """
    if not factor_seen_by_host:
        before = _before_ours(read(service, "auth"), service, "auth")
        if not any(line.refuses and line.module not in _FORMALITIES for line in before):
            raise ConfigError(
                (f"enrol: no auth line of {service} before ours keeps out whom the first factor refuses",)
            )
    for line in _before_ours(read(service, "account"), service, "account"):
        if line.control not in _ALWAYS_GOES_ON:
            raise ConfigError(
                (f"enrol: {line.module} could pass by our account line of {service}; put ours before it",)
            )


def _before_ours(lines: list[Line], service: str, kind: str) -> list[Line]:
    for place, line in enumerate(lines):
        if line.is_ours:
            if line.control not in _REFUSING:
                raise ConfigError((f"enrol: our {kind} line of {service} is neither required nor requisite",))
            return lines[:place]
    raise ConfigError((f"enrol: {service} has no {kind} line with this module",))


def read(service: str, kind: str) -> list[Line]:
    """Read the lines of one kind that make a service, those of included files in their place.

    Args:
        service: its name.
        kind: `auth` or `account`.

    Raises:
        ConfigError: a file is not there, open to others or not to be understood.
    """
    return _lines_of(service.rpartition("/")[2].lower(), kind, MAX_DEPTH)


def _lines_of(name: str, kind: str, depth: int) -> list[Line]:
    if depth == 0 or not name or name.startswith("."):
        raise ConfigError(("enrol: the PAM services include each other too deeply",))
    lines = []
    for text in _logical_lines(_text_of(name), name):
        words = _words(text)
        first = words[0].lower().removeprefix("-")
        if first not in _FEWEST_WORDS or len(words) < _FEWEST_WORDS[first]:
            raise ConfigError((f"enrol: a line of {name} cannot be understood",))
        if first == "@include":
            lines += _lines_of(words[1], kind, depth - 1)
        elif first == kind:
            control = words[1].lower()
            if control in ("include", "substack"):
                lines += _lines_of(words[2], kind, depth - 1)
            else:
                lines.append(Line(control, os.path.basename(words[2]), tuple(words[3:])))
    return lines


def _text_of(name: str) -> str:
    if name.startswith("/"):
        return files.read_conf(name, True)
    for directory in DIRECTORIES:
        if os.path.lexists(f"{directory}/{name}"):
            return files.read_conf(f"{directory}/{name}", True)
    raise ConfigError((f"enrol: there is no {DIRECTORIES[0]}/{name} in which to look for our lines",))


def _logical_lines(text: str, name: str) -> list[str]:
    """Put continued lines together. Where versions of libpam differ in what belongs together, nothing is guessed."""
    lines, begun = [], ""
    for physical in text.split("\n"):
        visible, comment, _ = physical.partition("#")
        visible = visible.strip()
        goes_on = physical.rstrip().endswith("\\")
        if (goes_on and comment) or (begun and not visible):
            raise ConfigError((f"enrol: {name} has a line that goes on in or behind a comment or an empty line",))
        if goes_on:
            begun += visible[:-1] + " "
            continue
        if visible:
            lines.append(begun + visible)
        begun = ""
    if begun:
        raise ConfigError((f"enrol: {name} ends where a line goes on",))
    return lines


def _words(line: str) -> list[str]:
    """Take a line apart; what stands in brackets is one word."""
    words = []
    while line := line.lstrip():
        if line.startswith("["):
            word, _, line = line[1:].partition("]")
        else:
            word = line.split(None, 1)[0]
            line = line[len(word) :]
        words.append(word)
    return words
