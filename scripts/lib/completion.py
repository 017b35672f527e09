"""Completions of `softtoken-enroll` for bash, zsh and fish, made from its command line.

They are plain scripts of the shells: a Tab starts no program of ours, and files and users are what the shell itself
takes for them.
"""

from __future__ import annotations

import argparse

from manual import actions, choices

from pam_softtoken import enroll

PROGRAM = enroll.PROGRAM
NOTE = "made by scripts/document"


def scripts() -> dict[str, str]:
    """Give the script for each shell, by its path below the directory of all documents."""
    options = actions(enroll.build_parser())
    return {
        f"bash-completion/completions/{PROGRAM}": _bash(options),
        f"zsh/vendor-completions/_{PROGRAM}": _zsh(options),
        f"fish/vendor_completions.d/{PROGRAM}.fish": _fish(options),
    }


def _is_file(action: argparse.Action) -> bool:
    return str(action.metavar).startswith("FILE")


def _is_user(action: argparse.Action) -> bool:
    return action.metavar == "USER"


def _bash(options: list[argparse.Action]) -> str:
    cases = []
    for action in options:
        if action.nargs == 0:
            continue
        if _is_file(action):
            what = "_filedir"
        elif _is_user(action):
            what = 'COMPREPLY=($(compgen -u -- "$cur"))'
        elif choices(action):
            what = f"COMPREPLY=($(compgen -W '{' '.join(choices(action))}' -- \"$cur\"))"
        else:
            what = ":"
        cases.append(f"\t{' | '.join(action.option_strings)}) {what} ;;\n")
    every = " ".join(name for action in options for name in action.option_strings if name.startswith("--"))
    return f"""\
# Completions of {PROGRAM} for bash, {NOTE}.
_softtoken_enroll() {{
	local cur prev words cword split
	_init_completion -s || return
	case $prev in
{"".join(cases)}\t*) $split || COMPREPLY=($(compgen -W '{every}' -- "$cur")) ;;
	esac
}}
complete -F _softtoken_enroll {PROGRAM}
"""


def _zsh(options: list[argparse.Action]) -> str:
    lines = []
    for action in options:
        name = action.option_strings[-1]
        meaning = f"[{_escaped(action.help or '', '[]')}]"
        if action.nargs == 0:
            alone = action.dest == "help"
            names = f"{{{','.join(action.option_strings)}}}" if alone else name
            lines.append(f"'(- *)'{names}{_quoted(meaning)}" if alone else _quoted(name + meaning))
            continue
        what = " "
        if _is_file(action):
            what = "_files"
        elif _is_user(action):
            what = "_users"
        elif choices(action):
            what = f"({' '.join(choices(action))})"
        lines.append(_quoted(f"{name}={meaning}:{action.dest.replace('_', ' ')}:{what}"))
    body = " \\\n\t".join(lines)
    return f"#compdef {PROGRAM}\n# Completions of {PROGRAM} for zsh, {NOTE}.\n_arguments -S \\\n\t{body}\n"


def _fish(options: list[argparse.Action]) -> str:
    lines = [f"# Completions of {PROGRAM} for fish, {NOTE}.", f"complete -c {PROGRAM} -f"]
    for action in options:
        words = [f"complete -c {PROGRAM}"]
        words += [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in action.option_strings]
        if action.nargs != 0:
            if _is_file(action):
                words.append("-r -F")
            elif _is_user(action):
                words.append("-x -a '(__fish_complete_users)'")
            else:
                words.append(f"-x -a '{' '.join(choices(action))}'" if choices(action) else "-x")
        lines.append(f"{' '.join(words)} -d '{_escaped(action.help or '', chr(39))}'")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _escaped(text: str, characters: str) -> str:
    return "".join("\\" + character if character in "\\" + characters else character for character in text)
