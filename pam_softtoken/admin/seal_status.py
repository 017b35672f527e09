"""Implement `softtoken-admin seal --status`. It only reads, and asks no TPM."""

from __future__ import annotations

import json
import os

from pam_softtoken.account import places, seal
from pam_softtoken.admin.common import person, seal_custody, sealed_files
from pam_softtoken.admin.common.seal_custody import Custody
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import terminal

_SHOWN = 10


def _found() -> tuple[Custody, str]:
    """Return what this host keeps, and why that cannot be used; the second is empty if it can."""
    try:
        return seal_custody.load(asking_tpm=False), ""
    except AdministrationFailed as error:
        return Custody(None, os.path.lexists(places.SEAL_CREDENTIAL)), error.message


def in_short() -> str:
    """Return one line for an overview of the host; empty where nothing is sealed. It looks at no token file."""
    found, problem = _found()
    if problem:
        return f"sealing: the key cannot be used, and users whose tokens are sealed are refused: {problem}"
    return f"sealing: {_state(found)}" if found.keys is not None else ""


def _state(found: Custody) -> str:
    if found.keys is None:
        return "off."
    if found.keys.sealing is None:
        return f"being turned off; {person.PROGRAM} seal --off goes on."
    return f"on, with the key {seal.key_id(found.keys.sealing)}. {found.in_words()}"


def show(screen: terminal.Terminal, *, as_json: bool) -> None:
    """Show whether sealing is on, where the key is, and which files cannot be opened."""
    found, problem = _found()
    files = sealed_files.look(found.keys)
    broken = [each for each in files if each.problem]
    sealing = seal.key_id(found.keys.sealing) if found.keys is not None and found.keys.sealing is not None else None
    facts = {
        "sealing": sealing is not None,
        "key": sealing,
        "other_keys": [name for name in (found.keys.by_id() if found.keys is not None else ()) if name != sealing],
        "tpm": found.with_tpm,
        "pcrs": found.keys.pcrs if found.keys is not None else "",
        "problem": problem,
        "sealed": sum(bool(each.key_id) for each in files),
        "plain": sum(not each.key_id and not each.problem for each in files),
        "unusable": [each._asdict() for each in broken],
    }
    if as_json:
        screen.show(json.dumps(facts))
        return
    screen.show(
        f"Sealing is {_state(found)}" if not problem else f"The key cannot be used: {terminal.visible(problem)}"
    )
    if facts["other_keys"] and sealing is not None:
        screen.show(f"A change of the key was interrupted; {person.PROGRAM} seal --rotate goes on.")
    screen.show(f"Token files in {places.DATA}: {facts['sealed']} sealed, {facts['plain']} plain.")
    if facts["plain"] and sealing is not None:
        screen.show(f"{person.PROGRAM} seal --on seals the plain ones.")
    for each in broken[:_SHOWN]:
        screen.show(terminal.visible(f"{each.path}: {each.problem}"))
    if len(broken) > _SHOWN:
        screen.show(f"and {len(broken) - _SHOWN} more")
