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


def show(screen: terminal.Terminal, *, as_json: bool) -> None:
    """Show whether sealing is on, where the key is, and which files cannot be opened."""
    problem = ""
    try:
        found = seal_custody.load(asking_tpm=False)
    except AdministrationFailed as error:
        found, problem = Custody(None, os.path.lexists(places.SEAL_CREDENTIAL)), error.message
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
    state = f"on, with the key {sealing}. {found.in_words()}" if sealing is not None else "off."
    if found.keys is not None and sealing is None:
        state = f"being turned off; {person.PROGRAM} seal --off goes on."
    screen.show(f"Sealing is {state}" if not problem else f"The key cannot be used: {terminal.visible(problem)}")
    if facts["other_keys"] and sealing is not None:
        screen.show(f"A change of the key was interrupted; {person.PROGRAM} seal --rotate goes on.")
    screen.show(f"Token files in {places.DATA}: {facts['sealed']} sealed, {facts['plain']} plain.")
    if facts["plain"] and sealing is not None:
        screen.show(f"{person.PROGRAM} seal --on seals the plain ones.")
    for each in broken[:_SHOWN]:
        screen.show(terminal.visible(f"{each.path}: {each.problem}"))
    if len(broken) > _SHOWN:
        screen.show(f"and {len(broken) - _SHOWN} more")
