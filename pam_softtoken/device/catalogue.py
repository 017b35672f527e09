"""`softtoken list`, `rename` and `remove`: list the tokens, and change their names."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

from pam_softtoken.device import desk, entry, passphrase
from pam_softtoken.device.entry import Entry
from pam_softtoken.otp.ocra import OCRAToken
from pam_softtoken.otp.token import HOTPToken, TOTPToken, require_name
from pam_softtoken.program_errors import UsageError, VaultFailed
from pam_softtoken.ui import consent, terminal
from pam_softtoken.ui.command_line import Command


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The options of `list`."""

    json: bool
    passphrase: passphrase.PassphraseOptions


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON array on stdout, for programs; without the keys")
    passphrase.add_arguments(parser)


def _list(screen: terminal.Terminal, options: ListOptions) -> None:
    _, entries = desk.open_vault(desk.passphrase_of(screen, options.passphrase))
    if options.json:
        screen.show(json.dumps([entry.shown(each) for each in entries], indent=2))
        return
    if not entries:
        screen.tell("The vault is empty.")
        return
    rows = [("NAME", "ISSUER", "TYPE", "CODE")]
    rows += [(screen.spell(each.name), screen.spell(each.issuer) or "-", *_kind_of(each)) for each in entries]
    widths = [max(terminal.width(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell + " " * (width - terminal.width(cell)) for cell, width in zip(row, widths, strict=False)]
        screen.show("  ".join([*cells, row[3]]))


def _kind_of(each: Entry) -> tuple[str, str]:
    token = each.token
    if isinstance(token, OCRAToken):
        return token.kind, "none; softtoken sign uses it"
    how = f"{token.digits} digits, {token.algorithm}"
    if isinstance(token, TOTPToken):
        return "totp", f"{how}, every {token.period_s} s"
    counter = token.counter if isinstance(token, HOTPToken) else 0
    return token.kind, f"{how}, next is number {counter}"


@dataclass(frozen=True, slots=True)
class RenameOptions:
    """The options of `rename`."""

    old: str
    new: str
    passphrase: passphrase.PassphraseOptions


def _rename_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="what it is called")
    parser.add_argument("new", metavar="NEW", help="what to call it")
    passphrase.add_arguments(parser)


def _rename(screen: terminal.Terminal, options: RenameOptions) -> None:
    try:
        require_name(options.new)
    except ValueError as error:
        raise UsageError(str(error), hint="as in softtoken rename phone work") from None
    vault, _ = desk.open_vault(desk.passphrase_of(screen, options.passphrase))
    terminal.checkpoint()
    with vault.changing() as entries:
        number = entry.find(entries, options.old, whole=True)
        if any(each.name == options.new for each in entries):
            raise VaultFailed(f'there is another entry "{options.new}"', hint="softtoken list shows the names")
        entries[number] = entries[number].named(options.new)
    screen.tell(f'"{screen.spell(options.old)}" is now called "{screen.spell(options.new)}".')


@dataclass(frozen=True, slots=True)
class RemoveOptions:
    """The options of `remove`."""

    name: str
    yes: bool
    passphrase: passphrase.PassphraseOptions


def _remove_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="which one, by its whole name")
    consent.add_yes(parser)
    passphrase.add_arguments(parser)


def _remove(screen: terminal.Terminal, options: RemoveOptions) -> None:
    vault, entries = desk.open_vault(desk.passphrase_of(screen, options.passphrase))
    entry.find(entries, options.name, whole=True)
    name = screen.spell(options.name)
    consent.require(screen, f'Remove "{name}"? Its key is gone then, from here.', given=options.yes)
    terminal.checkpoint()
    with vault.changing() as now_there:
        del now_there[entry.find(now_there, options.name, whole=True)]
    screen.tell(f'Removed "{name}".')


LIST = Command("list", "show which tokens there are", _list_arguments, ListOptions, _list)
RENAME = Command("rename", "give a token another name", _rename_arguments, RenameOptions, _rename)
REMOVE = Command("remove", "take a token away for good", _remove_arguments, RemoveOptions, _remove)
