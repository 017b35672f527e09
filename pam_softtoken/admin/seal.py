"""Implement `softtoken-admin seal`: seal the token files that root keeps, so that without the key they yield no codes.

A kill at any moment leaves a host where everybody gets in, and the same command goes on. The order is that of
`host_key`: the key is kept before the first file needs it, and forgotten after the last one.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

from pam_softtoken.account import host_key, places, seal
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.admin import seal_recovery, seal_status
from pam_softtoken.admin.common import deed, person, seal_custody, sealed_files
from pam_softtoken.admin.common.seal_custody import Custody
from pam_softtoken.errors import BadTokenFile, PathError
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.ui import progress, terminal
from pam_softtoken.ui.command_line import Command

ON, OFF, ROTATE, STATUS, RECOVER = DEEDS = ("on", "off", "rotate", "status", "recover")


@dataclass(frozen=True, slots=True)
class SealOptions:
    """The options of `seal`."""

    on: bool
    off: bool
    rotate: bool
    status: bool
    recover: bool
    tpm: bool
    pcrs: str | None
    json: bool

    @property
    def deed(self) -> str:
        """The one of the first five that was given."""
        return next(name for name in DEEDS if getattr(self, name))


def _seal(screen: terminal.Terminal, options: SealOptions) -> None:
    _require_sensible(options)
    person.require_root(f"seal --{options.deed}")
    work = {ON: _turn_on, OFF: _turn_off, ROTATE: _rotate, STATUS: _show_status, RECOVER: _recover}
    try:
        work[options.deed](screen, options)
    except PathError as error:
        raise AdministrationFailed(str(error), hint="correct that, and run the same command again") from None


def _require_sensible(options: SealOptions) -> None:
    if options.tpm and options.deed not in (ON, RECOVER):
        raise UsageError("--tpm goes with --on and --recover", hint="other changes leave the key where it is")
    if options.pcrs is not None and not options.tpm:
        raise UsageError("--pcrs goes with --tpm", hint=f"as in {person.PROGRAM} seal --on --tpm --pcrs 7")
    if options.json and options.deed != STATUS:
        raise UsageError("--json goes with --status", hint=f"as in {person.PROGRAM} seal --status --json")


# -- on, off, rotate


def _turn_on(screen: terminal.Terminal, options: SealOptions) -> None:
    _require_a_store()
    found = seal_custody.load()
    with_tpm = options.tpm or found.with_tpm
    pcrs = options.pcrs or "" if options.tpm else found.keys.pcrs if found.keys is not None else ""
    if found.keys is None:
        _require_nothing_sealed()
    if options.tpm:
        seal_custody.require_tpm(pcrs)
    present = found.keys.sealing or found.keys.others[0] if found.keys is not None else None
    key = present or seal_recovery.new_key(screen)
    with seal_custody.locked():
        _require_same(found)
        others = tuple(each for each in (found.keys.others if found.keys is not None else ()) if each != key)
        wanted = Custody(HostKeys(key, others, pcrs=pcrs), with_tpm)
        if found.keys is None or not _are_same(found, wanted):
            seal_custody.store(wanted)
            _record(ON, wanted)
        seal_custody.mark()
        written = _rewrite(screen, wanted.keys)
        _forget_old_keys(wanted)
    screen.tell(f"Done. {_files(written)} sealed now. {wanted.in_words()}")
    if not wanted.with_tpm:
        screen.tell("Leave that file out of backups: with it, they open the tokens.")
    screen.tell("Older backups, and the free space of the disk, may still have plain token files.")
    if found.keys is not None and options.tpm and not found.with_tpm:
        screen.tell(
            f"The disk and its backups may still have the key that was in {places.SEAL_KEY}: "
            f"{person.PROGRAM} seal --rotate makes another one."
        )


def _turn_off(screen: terminal.Terminal, options: SealOptions) -> None:
    found = seal_custody.load()
    if found.keys is None:
        _require_nothing_sealed()
        with seal_custody.locked():
            _require_same(found)
            seal_custody.remove()  # what a killed command may have left in /run
        screen.tell("Sealing is off already.")
        return
    with seal_custody.locked():
        _require_same(found)
        keys = HostKeys(None, tuple(found.keys.by_id().values()), pcrs=found.keys.pcrs)
        wanted = Custody(keys, found.with_tpm)
        if found.keys.sealing is not None:
            seal_custody.store(wanted)
        written = _rewrite(screen, keys)
        seal_custody.remove()
    _record(OFF, found)
    screen.tell(f"Done. {_files(written)} plain now, and the key is gone.")


def _rotate(screen: terminal.Terminal, options: SealOptions) -> None:
    found = seal_custody.load()
    if found.keys is None or found.keys.sealing is None:
        what = "sealing is off" if found.keys is None else "sealing is being turned off"
        raise AdministrationFailed(what, hint=f"{person.PROGRAM} seal --on turns it on")
    if found.keys.others:
        wanted = found
        screen.tell("The rotation that was interrupted goes on. Its recovery key is the one that was shown then.")
    else:
        keys = HostKeys(seal_recovery.new_key(screen), (found.keys.sealing,), pcrs=found.keys.pcrs)
        wanted = Custody(keys, found.with_tpm)
    with seal_custody.locked():
        _require_same(found)
        if wanted is not found:
            seal_custody.store(wanted)
            _record(ROTATE, wanted)
        seal_custody.mark()
        written = _rewrite(screen, wanted.keys)
        _forget_old_keys(wanted)
    screen.tell(f"Done. {_files(written)} sealed with the new key. The old recovery key opens only old backups.")


def _recover(screen: terminal.Terminal, options: SealOptions) -> None:
    if options.tpm:
        seal_custody.require_tpm(options.pcrs or "")
    wanted = seal_recovery.recovered(screen, with_tpm=options.tpm, pcrs=options.pcrs or "")
    with seal_custody.locked():
        seal_custody.store(wanted)
        seal_custody.mark()
        _record(RECOVER, wanted)
    screen.tell(f"Done. {wanted.in_words()}")
    for seen in sealed_files.look(wanted.keys):
        if seen.problem:
            screen.tell(terminal.visible(f"{seen.path}: {seen.problem}"))
    if wanted.keys is not None and wanted.keys.others:
        screen.tell(f"Next: {person.PROGRAM} seal --rotate, so that all files have one key again.")


def _show_status(screen: terminal.Terminal, options: SealOptions) -> None:
    seal_status.show(screen, as_json=options.json)


def _forget_old_keys(custody: Custody) -> None:
    """Keep only the key that seals. `_rewrite` has checked that no file needs another one."""
    keys = custody.keys
    if keys is not None and keys.others:
        seal_custody.store(Custody(HostKeys(keys.sealing, pcrs=keys.pcrs), custody.with_tpm))


def _rewrite(screen: terminal.Terminal, keys: HostKeys | None) -> int:
    """Write all files as the keys say. Return how many were written.

    Raises:
        AdministrationFailed: some could not be written, and may need a key that would be forgotten now.
    """
    if keys is None:
        raise ValueError("there is no key")
    with progress.shown(len(sealed_files.directories()), "sealing") as advance:
        written, failures = sealed_files.rewrite_all(keys, advance)
    dropped = {name for name, key in keys.by_id().items() if key != keys.sealing}
    in_need = [seen.path for seen in sealed_files.look(keys) if seen.key_id in dropped]
    for failure in failures:
        screen.tell(terminal.visible(f"{failure.path}: {failure.why}"))
    blocking = [each.path for each in failures if not isinstance(each, BadTokenFile)]
    if in_need or blocking or (failures and not dropped):
        names = ", ".join(dict.fromkeys((*in_need, *blocking, *(each.path for each in failures))))
        raise AdministrationFailed(
            f"{_files(written)} done, and these are not: {names}; no key is forgotten",
            hint=f"correct that, and run this again; {person.PROGRAM} revoke USER takes away what is damaged",
        )
    return written


def _require_a_store() -> None:
    """Check that there is something that can be sealed.

    Raises:
        AdministrationFailed: this host keeps the tokens elsewhere.
    """
    settings = person.settings_of(None)
    store = settings.fleet_alone if settings.fleet else settings.store
    if os.path.dirname(store) == places.DATA or sealed_files.look(None):
        return
    person.require_no_realm(settings, hint="a realm's tokens are always sealed, see softtoken-fleet(7)")
    if store.startswith("%h"):
        raise AdministrationFailed(
            "the tokens are in the users' homes, where users write them; only root's can be sealed",
            hint=f"first {person.PROGRAM} move --all --to system, with store={places.SYSTEM_STORE}",
        )
    raise AdministrationFailed(
        f"only tokens in {places.DATA} are sealed, and those of this host are in {store}",
        hint=f"set store={places.SYSTEM_STORE}, and move them there",
    )


def _require_nothing_sealed() -> None:
    """Check that this host, which has no key, needs none.

    Raises:
        AdministrationFailed: there are sealed files, so their key is lost.
    """
    sealed = [seen.path for seen in sealed_files.look(None) if seen.key_id]
    if sealed:
        raise AdministrationFailed(
            f"there is no key, and {_files(len(sealed))} sealed: {sealed[0]}",
            hint=f"{person.PROGRAM} seal --recover takes the recovery key; {person.PROGRAM} revoke takes a file away",
        )


def _require_same(found: Custody) -> None:
    """Check, under the lock, that no other command has changed the keys since they were read.

    Raises:
        AdministrationFailed: one has.
    """
    if not _are_same(found, seal_custody.load()):
        raise AdministrationFailed("another command has changed the key meanwhile", hint="start again")


def _are_same(left: Custody, right: Custody) -> bool:
    texts = [host_key.serialise(each.keys) if each.keys is not None else b"" for each in (left, right)]
    return texts[0] == texts[1] and left.with_tpm == right.with_tpm


def _files(number: int) -> str:
    return "1 token file is" if number == 1 else f"{number} token files are"


def _record(what: str, custody: Custody) -> None:
    keys = custody.keys
    name = seal.key_id(keys.sealing) if keys is not None and keys.sealing is not None else ""
    deed.record("seal", "", what=what, key=name, tpm="yes" if custody.with_tpm else "")


# -- the command line


def _pcrs(text: str) -> str:
    numbers = text.split("+")
    if not all(each.isascii() and each.isdecimal() and int(each) < 24 for each in numbers) or len(text) > 64:
        raise argparse.ArgumentTypeError("takes numbers from 0 to 23, as in 7 or 7+11")
    return text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"Seal the token files that root keeps in {places.DATA}: keys, PIN and recovery hashes are encrypted, and a "
        "file that was changed is refused. Without the key of this host a backup then yields no codes. The key is in "
        f"{places.SEAL_KEY}, which must stay out of that backup. With --tpm, only the TPM of this machine opens the "
        "key, once at each start, so that a stolen disk yields no codes either. Logins read plain and sealed files all "
        "the time, so a command that was interrupted can be run again. Tokens in the users' homes are never sealed."
    )
    deeds = parser.add_mutually_exclusive_group(required=True)
    deeds.add_argument(
        "--on", action="store_true",
        help="make a key, show it once as a recovery key, and seal all files when that was typed back",
    )  # fmt: skip
    deeds.add_argument("--off", action="store_true", help="make all files plain, and forget the key")
    deeds.add_argument("--rotate", action="store_true", help="seal all files with a new key; begins like --on")
    deeds.add_argument(
        "--status", action="store_true", help="show where the key is, and which files are sealed or cannot be opened"
    )
    deeds.add_argument(
        "--recover", action="store_true", help="the key is lost: ask for the recovery key, and keep it as the key again"
    )
    parser.add_argument("--tpm", action="store_true", help="with --on and --recover: keep the key with the TPM")
    parser.add_argument(
        "--pcrs", metavar="N", type=_pcrs,
        help="with --tpm: the TPM opens the key only in this state of the machine, as in 7 or 7+11 (default: in any, "
        "so that a new firmware keeps nobody out)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="with --status: one JSON object on stdout, for programs")


SEAL = Command(
    "seal", "seal the tokens that root keeps, so that a backup has no codes", _add_arguments, SealOptions, _seal
)
