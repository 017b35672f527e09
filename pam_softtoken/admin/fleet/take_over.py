"""Implement `softtoken-admin fleet import`: copy the tokens of users of this host into the realm."""

from __future__ import annotations

import os
import time

from pam_softtoken.account import state_format, token_file
from pam_softtoken.account.editor import Editor
from pam_softtoken.admin.common import bounded, deed, logins, person
from pam_softtoken.admin.fleet.cluster import CALL_S, Cluster
from pam_softtoken.config import Config
from pam_softtoken.errors import NotEnrolled, PathError
from pam_softtoken.fleet.engine import EngineDown
from pam_softtoken.fleet.realm import NONCE_BYTES, STATE, TOKENS
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.ui import terminal


def run(
    screen: terminal.Terminal, cluster: Cluster, settings: Config, users: tuple[str, ...], *, everybody: bool
) -> None:
    """Import some users.

    Raises:
        UsageError: no user is named.
        AdministrationFailed: some could not be imported; a message for each was shown.
    """
    if bool(users) == everybody:
        raise UsageError("either users or --all", hint="as in softtoken-admin fleet import alice")
    entries = logins.everybody() if everybody else person.entries_of(users)
    names = [entry.pw_name for entry in entries if entry.pw_name]
    done, failed = 0, []
    for name in names:
        try:
            content, state = bounded.work_for(name, lambda name=name: _read(name, settings))  # type: ignore[misc]
            if not content:
                if not everybody:
                    raise AdministrationFailed(f"{name} has no tokens on this host", hint="nothing is to be imported")
                continue
            _write(cluster, name, bytes.fromhex(content), bytes.fromhex(state))
        except AdministrationFailed as error:
            failed.append(name)
            screen.tell(f"{name}: {terminal.visible(error.message)}; {error.hint}")
            continue
        done += 1
        deed.record("fleet-import", name, realm=cluster.realm.name)
        screen.show(f"{name}: imported")
    if failed:
        raise AdministrationFailed(
            f"{len(failed)} of {done + len(failed)} not imported: {', '.join(failed)}",
            hint="what was wrong is above; the same command goes on with them",
        )
    if not done:
        screen.tell("Nobody has tokens on this host.")


def _read(name: str, settings: Config) -> tuple[str, str]:
    """Return the texts of a user's tokens and state, in hexadecimal; empty if there are none."""
    store = Editor(person.location_of(name, settings))
    try:
        content = store.open_enrolled()
        state = store.glance_at_state()[0]
    except NotEnrolled:
        return "", ""
    except PathError as error:
        raise AdministrationFailed(str(error), hint=f"softtoken-admin mend {name}") from None
    finally:
        store.close()
    text = b"" if state is None else state_format.encode_text(state.without_graces(), content.record_names())
    return token_file.serialise(content).hex(), text.hex()


def _write(cluster: Cluster, name: str, tokens: bytes, state: bytes) -> None:
    """Write both keys, if the realm has neither.

    Raises:
        AdministrationFailed: it has, or the cluster does not answer, or this host must not write tokens.
    """
    realm = cluster.realm
    tokens_key, state_key = realm.key(TOKENS, name), realm.key(STATE, name)
    put: dict[str, bytes | None] = {tokens_key: realm.seal(TOKENS, name, tokens)}
    if state:
        put[state_key] = realm.seal(STATE, name, os.urandom(NONCE_BYTES) + state)
    try:
        swapped = cluster.engine.swap(
            {tokens_key: 0, state_key: 0}, put, [tokens_key], deadline_s=time.monotonic() + CALL_S
        )
    except EngineDown as error:
        raise AdministrationFailed(
            str(error), hint="only a host that joined with --enrol, or the administrator's machine, can write tokens"
        ) from None
    if not swapped.done and swapped.entries[0].value != put[tokens_key]:
        raise AdministrationFailed(
            "the realm has tokens of this user, or had some", hint="they stay as they are; nothing was imported"
        )
