"""Write completions of the programs for bash, zsh and fish, from their command lines.

They are plain scripts of the shells. A Tab starts no program of ours, and the shell itself completes files and users.
After a name whose values nobody can list, a Tab offers nothing.
"""

from __future__ import annotations

import argparse

from manual import PROGRAMS, actions, choices, meaning, operands, subcommands

NOTE = "made by scripts/document"
SERVICES = "/etc/pam.d"


def scripts() -> dict[str, str]:
    """Return the script of each program for each shell, by its path below the directory of all documents."""
    made = {}
    for program in PROGRAMS.values():
        name, parser = program.PROGRAM, program.build_parser()
        made[f"bash-completion/completions/{name}"] = _bash(name, parser)
        made[f"zsh/vendor-completions/_{name}"] = _zsh(name, parser)
        made[f"fish/vendor_completions.d/{name}.fish"] = _fish(name, parser)
    return made


_VALUES = {
    "FILE": {"bash": "_filedir", "zsh": "_files", "fish": "-r -F"},
    "USER": {
        "bash": 'COMPREPLY=($(compgen -u -- "$cur"))',
        "zsh": "_users",
        "fish": "-x -a '(__fish_complete_users)'",
    },
    "SERVICE": {
        "bash": f'COMPREPLY=($(cd {SERVICES} && compgen -f -- "$cur"))',
        "zsh": f"_files -W {SERVICES}",
        "fish": f"-x -a '(path basename {SERVICES}/*)'",
    },
}
"""What each shell completes by itself, by the name of the value."""
_CHOICES = {"bash": "COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", "zsh": "({})", "fish": "-x -a '{}'"}


def _values(action: argparse.Action, shell: str) -> str:
    """Return what a shell offers for the value of an action; empty if nothing can be offered."""
    kind = "FILE" if str(action.metavar).startswith("FILE") else str(action.metavar)
    if kind in _VALUES:
        return _VALUES[kind][shell]
    return _CHOICES[shell].format(" ".join(choices(action))) if choices(action) else ""


def _bash(name: str, parser: argparse.ArgumentParser) -> str:
    function = "_" + name.replace("-", "_")
    commands = subcommands(parser)
    if commands:
        words = " ".join([*commands, *(action.option_strings[-1] for action in actions(parser))])
        body = "\tcase $cword:${words[1]} in\n"
        body += f"\t1:*) COMPREPLY=($(compgen -W '{words}' -- \"$cur\")) ;;\n"
        for command, (_, own) in commands.items():
            body += f"\t*:{command})\n{_bash_arguments(own, indent=chr(9) * 2)}\t\t;;\n"
        body += "\tesac\n"
    else:
        body = _bash_arguments(parser, indent="\t")
    return f"""\
# Completions of {name} for bash, {NOTE}.
{function}() {{
	local cur prev words cword split
	_init_completion -s || return
{body}}}
complete -F {function} {name}
"""


def _bash_arguments(parser: argparse.ArgumentParser, *, indent: str) -> str:
    lines = ["case $prev in"]
    for action in actions(parser):
        if action.nargs != 0:
            lines.append(f"{' | '.join(action.option_strings)}) {_values(action, 'bash') or ':'} ;;")
    every = " ".join(name for action in actions(parser) for name in action.option_strings if name.startswith("--"))
    offer = f"COMPREPLY=($(compgen -W '{every}' -- \"$cur\"))"
    values = [_values(action, "bash") for action in operands(parser)]
    if any(values):
        offer = f"if [[ $cur == -* ]]; then {offer}; else {next(filter(None, values))}; fi"
    lines += [f"*) $split || {{ {offer}; }} ;;" if values else f"*) $split || {offer} ;;", "esac"]
    return "".join(f"{indent}{line}\n" for line in lines)


def _zsh(name: str, parser: argparse.ArgumentParser) -> str:
    head = f"#compdef {name}\n# Completions of {name} for zsh, {NOTE}.\n"
    commands = subcommands(parser)
    if not commands:
        return f"{head}_arguments -S \\\n\t{_zsh_arguments(parser)}\n"
    described = " ".join(_quoted(f"{command}:{_escaped(purpose, ':')}") for command, (purpose, _) in commands.items())
    cases = "".join(
        f"{command}) _arguments -S \\\n\t{_zsh_arguments(own)} ;;\n" for command, (_, own) in commands.items()
    )
    return f"""{head}local -a commands=({described})
local context state state_descr line
local -A opt_args
_arguments -C \\
	{_zsh_arguments(parser)} \\
	'1:command:->command' '*::argument:->argument'
case $state in
command) _describe -t commands command commands ;;
argument)
case $words[1] in
{cases}esac
;;
esac
"""


def _zsh_arguments(parser: argparse.ArgumentParser) -> str:
    lines = []
    for action in actions(parser):
        name = action.option_strings[-1]
        described = f"[{_escaped(meaning(action), '[]')}]"
        if action.nargs == 0:
            names = f"{{{','.join(action.option_strings)}}}" if len(action.option_strings) > 1 else name
            alone = isinstance(action, (argparse._HelpAction, argparse._VersionAction))
            lines.append(f"'(- *)'{names}{_quoted(described)}" if alone else _quoted(name + described))
            continue
        lines.append(_quoted(f"{name}={described}:{action.dest.replace('_', ' ')}:{_values(action, 'zsh') or ' '}"))
    for number, action in enumerate(operands(parser), 1):
        place = "*" if action.nargs in ("*", "+") else number
        # A space would tell the user that nothing can be offered. But zsh would then not complete an option here
        # either.
        values = _values(action, "zsh") or "()"
        lines.append(_quoted(f"{place}:{_zsh_title(action)}:{values}"))
    return " \\\n\t".join(lines)


def _zsh_title(action: argparse.Action) -> str:
    return str(action.metavar or action.dest).split("|")[0].lower().replace(":", " ")


def _fish(name: str, parser: argparse.ArgumentParser) -> str:
    lines = [f"# Completions of {name} for fish, {NOTE}.", f"complete -c {name} -f"]
    commands = subcommands(parser)
    if commands:
        first = "-n __fish_use_subcommand"
        lines += _fish_arguments(name, parser, when=f" {first}")
        for command, (purpose, own) in commands.items():
            lines.append(f"complete -c {name} {first} -a {command} -d '{_escaped(purpose, chr(39))}'")
            lines += _fish_arguments(name, own, when=f" -n '__fish_seen_subcommand_from {command}'")
    else:
        lines += _fish_arguments(name, parser, when="")
    return "\n".join(lines) + "\n"


def _fish_arguments(name: str, parser: argparse.ArgumentParser, *, when: str) -> list[str]:
    lines = []
    for action in actions(parser):
        words = [f"complete -c {name}{when}"]
        words += [f"-l {each[2:]}" if each.startswith("--") else f"-s {each[1:]}" for each in action.option_strings]
        if action.nargs != 0:
            words.append(_values(action, "fish") or "-x")
        lines.append(f"{' '.join(words)} -d '{_escaped(meaning(action), chr(39))}'")
    for action in operands(parser):
        values = _values(action, "fish")
        if values:
            lines.append(f"complete -c {name}{when} {values.replace('-r -F', '-F').replace('-x ', '')}")
    return lines


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _escaped(text: str, characters: str) -> str:
    return "".join("\\" + character if character in "\\" + characters else character for character in text)
