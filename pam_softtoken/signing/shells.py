"""Which programs are shells that take commands from their input. For these, a signature says little. Does no I/O."""

from __future__ import annotations

import os

SHELLS = frozenset(("sh", "bash", "rbash", "dash", "zsh", "fish", "ksh", "mksh", "csh", "tcsh", "ash"))
WITH_SHELLS = frozenset(("busybox", "su", "screen", "tmux"))
_WITH_VALUES = frozenset(("--rcfile", "--init-file", "-rcfile", "-init-file"))
_LONG = frozenset(("-norc", "-noprofile", "-noediting", "-restricted", "-posix", "-login", "-verbose", "-debugger"))
"""Long options of bash, which may also have a single dash."""
_TYPED = frozenset(("/dev/stdin", "/dev/tty", "/dev/fd/0", "/proc/self/fd/0"))


def take_commands(program: str, arguments: tuple[str, ...]) -> bool:
    """Check whether a program is a shell that waits for what is typed, or starts one."""
    name = os.path.basename(program)
    if name == "busybox":
        return bool(arguments) and take_commands(arguments[0], arguments[1:])
    if name == "su":
        return not _has_command_for_su(arguments)
    return name in WITH_SHELLS or (name in SHELLS and _reads_input(arguments))


def _reads_input(arguments: tuple[str, ...]) -> bool:
    """Check whether a shell gets neither a command nor a script with its arguments."""
    words = list(arguments)
    reads = False
    while words:
        word = words.pop(0)
        if word in ("-", "--"):
            break
        if word in _WITH_VALUES:
            del words[:1]
        elif word[:1] not in ("-", "+"):
            return reads or word in _TYPED
        elif not word.startswith("--") and word not in _LONG:
            if "c" in word:
                return False
            reads = reads or "s" in word
            del words[: word.count("o") + word.count("O")]
    return reads or not words or words[0] in _TYPED


def _has_command_for_su(arguments: tuple[str, ...]) -> bool:
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            return False
        if word.startswith(("--c", "--session-command")):
            return True
        if word.startswith("-") and not word.startswith("--"):
            options = word[1:]
            with_value = min((options.index(each) for each in "cgGsTw" if each in options), default=-1)
            if with_value >= 0 and options[with_value] == "c":
                return True
            if 0 <= with_value == len(options) - 1:
                del words[:1]
        elif word in ("--shell", "--group", "--supp-group", "--whitelist-environment"):
            del words[:1]
    return False
