"""`softtoken import`: add the tokens of another app's export, none of them twice."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import NamedTuple

from pam_softtoken.device import desk, passphrase
from pam_softtoken.device.entry import Entry, Names
from pam_softtoken.interchange.apps import exports
from pam_softtoken.interchange.record import Imported
from pam_softtoken.program_errors import UsageError, VaultFailed
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The options of `import`."""

    file: str
    file_passphrase_fd: int | None
    passphrase: passphrase.PassphraseOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument("file", metavar="FILE", help="what another app has exported, or - for stdin")
    parser.add_argument(
        "--file-passphrase-fd", type=int, metavar="N",
        help="take what opens an encrypted export from descriptor N, one line, instead of asking",
    )  # fmt: skip
    passphrase.add_arguments(parser)


class Report(NamedTuple):
    """What became of an export.

    Attributes:
        taken: names in the vault.
        skipped: why a token was not imported.
        remarks: what was lost of imported tokens, a sentence for each.
    """

    taken: list[str]
    skipped: list[str]
    remarks: list[str]


def run(screen: terminal.Terminal, options: ImportOptions) -> None:
    """Import tokens.

    Raises:
        ProgramError: none was imported.
    """
    source = desk.passphrase_of(screen, options.passphrase)
    path = "stdin" if options.file == "-" else options.file

    def ask_passphrase() -> str:
        if options.file_passphrase_fd is not None:
            return passphrase.line_from_descriptor(options.file_passphrase_fd)
        typed = screen.ask_person("Passphrase of the export:")
        if typed is None:
            raise UsageError(
                "there is no terminal to ask for the passphrase of the export",
                hint="hand it over: --file-passphrase-fd 4 4<FILE",
            )
        return typed

    harvest = exports.read(desk.read_file(options.file), path=path, now=int(time.time()), ask_passphrase=ask_passphrase)
    vault, _ = desk.open_or_make_vault(source)
    terminal.checkpoint()
    with vault.changing() as entries:
        report = take(harvest.found, entries)
    for name in report.taken:
        screen.tell(f'Took "{screen.spell(name)}".')
    for remark in report.remarks:
        screen.tell(screen.spell(terminal.visible(remark)))
    for reason in (*harvest.skipped, *report.skipped):
        screen.tell(f"Skipped: {screen.spell(terminal.visible(reason)).removesuffix('.')}.")
    screen.tell(f"{len(report.taken)} taken, {len(harvest.skipped) + len(report.skipped)} skipped.")
    if not report.taken and not report.skipped:
        raise VaultFailed(f'there is no token in "{path}" that can be taken', hint="the lines above say why")


def take(found: tuple[Imported, ...], entries: list[Entry]) -> Report:
    """Append the tokens that were found to the existing entries."""
    report = Report([], [], [])
    names = Names(entries)
    held = {entry.way: entry.name for entry in reversed(entries)}
    for each in found:
        new = Entry(each.token)
        if new.way in held:
            report.skipped.append(f'"{new.name}" is there already, as "{held[new.way]}"')
            continue
        name = held[new.way] = names.take(new.name)
        entries.append(new.named(name))
        report.taken.append(name)
        left = [*each.notes]
        if each.pin:
            left.append("its PIN is not kept here; type it in front of the code")
        if each.scratch_codes:
            left.append("its recovery codes are not kept here; keep the file until you have them on paper")
        report.remarks.extend(f'"{name}": {note.rstrip(".")}.' for note in left)
    return report


COMMAND = Command("import", "import the tokens of another app's export", add_arguments, ImportOptions, run)
