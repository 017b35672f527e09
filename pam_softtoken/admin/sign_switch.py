"""Implement `enable sudo --sign` and `disable sudo --sign`: let sudo ask for a signature over each command, or not.

`enable` shows who is asked and who would be refused, tries the new sudo.conf in private, and waits for a signed
command. A change without confirmation is undone automatically. `disable` needs no sudo, so root can undo what has
broken it.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import dataclass

from pam_softtoken import platform_facts
from pam_softtoken.account import places, roots_files
from pam_softtoken.admin.access import host_facts, lockout, sign_forecast
from pam_softtoken.admin.access.lockout import Verdict
from pam_softtoken.admin.access.sign_forecast import Outlook
from pam_softtoken.admin.change import carry_out, record, sudo_checks, sudo_trial, watchdog, way_back, wording
from pam_softtoken.admin.change.plan import diff
from pam_softtoken.admin.change.record import FileChange
from pam_softtoken.admin.common import deed, duration, host_file, person
from pam_softtoken.admin.common.host_file import Content
from pam_softtoken.admin.sshd.match_blocks import MAYBE, YES
from pam_softtoken.login.login_note import SIGNING
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.signing import sudo_conf
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import OptionalValue

SERVICE = "sudo"
ENROLLED_ONLY = "enrolled"
"""The value of --sign without a word: only users with a signing token are asked."""
SHORTEST, LONGEST = "1s", "1d"


@dataclass(frozen=True, slots=True)
class SignOptions:
    """The options of `enable` that count with --sign."""

    service: str
    sign: str
    time: str
    user: str | None
    lock_out: lockout.LockOutOptions
    dry_run: bool


def add_sign(parser: argparse.ArgumentParser, *, takes_value: bool) -> None:
    """Add the option --sign.

    Args:
        parser: of the subcommand.
        takes_value: it may have a value.
    """
    if not takes_value:
        parser.add_argument("--sign", action="store_true", help="with sudo: no longer ask for signatures; codes stay")
        return
    parser.add_argument(
        "--sign", action=OptionalValue, without=ENROLLED_ONLY, choices=(sudo_conf.REQUIRED,),
        help="with sudo: ask for a signature over each command, whether or not it asks for codes; only users with a "
        f"signing token are asked, and with --sign={sudo_conf.REQUIRED} all others but root are refused",
    )  # fmt: skip


def require_sudo_alone(service: str) -> None:
    """Check that --sign is about sudo.

    Raises:
        UsageError: it is about another service.
    """
    if service != SERVICE:
        raise UsageError(f'"{service}" runs no commands that could be signed', hint="--sign is for sudo")


def enable(screen: terminal.Terminal, options: SignOptions) -> None:
    """Turn on signatures, and wait until the change is confirmed or undone.

    Raises:
        UsageError, AdministrationFailed, NotConfirmed: nothing was changed, or everything was undone.
    """
    require_sudo_alone(options.service)
    person.require_root(f"enable {SERVICE} --sign")
    for_s = duration.between("--for", options.time, SHORTEST, LONGEST)
    carry_out.require_none_pending(SIGNING)
    lockout.names_meant(options.lock_out.lock_out)
    required = options.sign == sudo_conf.REQUIRED
    present = host_file.read(sudo_conf.PATH)
    sudo_checks.require_all(present)
    change = _change(present, required=required)
    found = sign_forecast.outlook(required=required)
    screen.show(diff([change]))
    for line in sign_forecast.lines(found):
        screen.tell(terminal.visible(line))
    _require_not_refused(found, force=options.lock_out.force)
    awaited = _awaited(found, options.user)
    screen.tell(terminal.visible(sudo_trial.run(way_back.text_of(change.after))))
    if options.dry_run:
        screen.tell("Nothing was changed.")
        return
    lockout.require_allowed(screen, _verdict(found), options.lock_out)
    terminal.checkpoint()
    _make_directory()
    planned = carry_out.put_in_use(screen, SIGNING, (change,), for_s, awaited)
    deed.record("enable", "all", service=SIGNING, way=options.sign, confirm_within=options.time)
    _show_what_confirms(screen, found, awaited, options.time)
    carry_out.wait(screen, planned)


def _change(before: Content, *, required: bool) -> FileChange:
    text = way_back.text_of(before)
    new = sudo_conf.with_line(text, required=required, directory=platform_facts.SUDO_PLUGINS)
    if sudo_conf.asks(text) and sudo_conf.requires(text) is required:
        raise AdministrationFailed(
            f"sudo asks for signatures already, because of a line in {sudo_conf.PATH}",
            hint=f"to end that: {wording.disable_command(SIGNING)}",
        )
    return FileChange(sudo_conf.PATH, before, before._replace(data=new.encode("utf-8", "surrogateescape")))


def _require_not_refused(found: Outlook, *, force: bool) -> None:
    why = found.refusal(host_facts.runner())
    if why and not force:
        raise AdministrationFailed(
            f"{why}; nothing was changed", hint="softtoken-enroll --sign first; --force goes on anyway"
        )


def _verdict(found: Outlook) -> Verdict:
    def named(certainty: int) -> dict[str, list[str]]:
        return {user.name: [] for user in found.refused(certainty)}

    return Verdict(named(YES), named(MAYBE), host_facts.runner(), refusal="")


def _awaited(found: Outlook, wanted: str | None) -> str:
    """Return the user whose signed command confirms the change; empty if anybody's does."""
    names = [user.name for user in found.asked]
    if wanted and wanted not in names:
        raise AdministrationFailed(
            f'"{wanted}" has no signing token, or may not use sudo', hint="--user names a user who would be asked"
        )
    runner = host_facts.runner()
    return wanted or (runner if runner in names else "")


def _make_directory() -> None:
    """Create the directory of the marks. Without it, the plugin could not know who has a signing token."""
    try:
        for directory in (places.DATA, places.SIGNERS):
            roots_files.make_directory(directory)
    except OSError as error:
        raise AdministrationFailed(
            f"{places.SIGNERS}: cannot be made: {error.strerror}; nothing was changed", hint="make room there"
        ) from None


def _show_what_confirms(screen: terminal.Terminal, found: Outlook, awaited: str, time: str) -> None:
    keep = wording.confirm_command(SIGNING)
    if not found.asked:
        screen.tell(f"sudo asks for signatures now. Nobody can sign yet. To keep it: {keep}")
        screen.tell(f"If nobody does so within {time}, the change is taken back.")
        return
    screen.tell("sudo asks for signatures now. In another terminal, sign a command: sudo true")
    if awaited:
        screen.tell(f"Only a command of {awaited} confirms it.")
    screen.tell(f"If nobody does so within {time}, the change is taken back. To keep it without one: {keep}")


def disable(screen: terminal.Terminal, *, dry_run: bool) -> None:
    """Remove our line from sudo.conf. Without one, there is nothing to do.

    This runs no sudo, and reads neither the plugin nor the tokens.

    Raises:
        AdministrationFailed: the line is still there.
    """
    person.require_root(wording.disable_command(SIGNING).partition(" ")[2])
    with watchdog.told_afterwards(screen.tell) as tell, record.locked():
        path = host_file.resolved(sudo_conf.PATH)
        present = host_file.read(path)
        text = way_back.text_of(present)
        earlier = _recorded()
        if not sudo_conf.asks(text):
            if earlier is not None and not dry_run:
                record.sweep(SIGNING)
            screen.tell("sudo asks for no signatures.")
            return
        left = sudo_conf.without_lines(text)
        was_made = earlier is not None and earlier.files[0].before.data is None and not left
        target = Content(None) if was_made else present._replace(data=left.encode("utf-8", "surrogateescape"))
        change = record.new(SIGNING, (FileChange(path, target, present),), for_s=0)._replace(state=record.RETURNING)
        if not dry_run:
            with suppress(AdministrationFailed, OSError):  # without room for a record it is done anyway
                record.begin(change)
            watchdog.undo_now(change, tell)
    screen.show(diff([FileChange(path, present, target)]))
    if dry_run:
        screen.tell("Nothing was changed.")
        return
    deed.record("disable", "all", service=SIGNING)
    screen.show("Done. sudo asks for no signatures any more.")


def _recorded() -> record.Change | None:
    try:
        return record.load(SIGNING)
    except AdministrationFailed:
        return None  # a damaged record is no reason to leave sudo as it is
