"""Implement `softtoken-admin fleet import`: copy the tokens of users of this host into the realm."""

from __future__ import annotations

import os

from pam_softtoken.account import state_format, token_file
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.state import State, moved_onto
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.admin.common import bounded, deed, logins, person
from pam_softtoken.admin.fleet.cluster import Cluster, Put, hint_after
from pam_softtoken.config import Config
from pam_softtoken.errors import DamagedState, NotEnrolled, PathError
from pam_softtoken.fleet.engine import EngineDown, Entry
from pam_softtoken.fleet.realm import NONCE_BYTES, STATE, TOKENS
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.ui import terminal


def run(
    screen: terminal.Terminal,
    cluster: Cluster,
    settings: Config,
    users: tuple[str, ...],
    *,
    everybody: bool,
    replaces: bool,
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
            tokens, text = bounded.work_for(name, lambda name=name: _read(name, settings))  # type: ignore[misc]
            if not tokens:
                if not everybody:
                    raise AdministrationFailed(f"{name} has no tokens on this host", hint="nothing is to be imported")
                continue
            content = token_file.parse(bytes.fromhex(tokens), path="tokens")
            state = state_format.decode_text(bytes.fromhex(text)) if text else None
            _write(cluster, name, content, state, replaces=replaces)
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
    store = Editor(person.location_of(name, settings.without("fleet")))
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


def _write(cluster: Cluster, name: str, content: TokenFile, state: State | None, *, replaces: bool) -> None:
    """Write the tokens and the state of a user, if the realm has no tokens of theirs.

    Raises:
        AdministrationFailed: it has, or the cluster does not answer, or this host must not write tokens.
    """
    realm = cluster.realm
    keys = [realm.key(TOKENS, name), realm.key(STATE, name)]
    value = realm.seal(TOKENS, name, token_file.serialise(content))

    def taken_over(present: list[Entry]) -> Put | None:
        tokens, known = present
        if tokens.value == value:  # an answer was lost, and a login has changed the state since
            return None
        if tokens.value is not None and not replaces:
            raise AdministrationFailed("the realm has tokens of this user already", hint="--force replaces them")
        put: Put = {keys[0]: value}
        new = _combined(cluster, name, content, state, known)
        if new is not None:
            put[keys[1]] = realm.sealed_state(name, new, os.urandom(NONCE_BYTES), content.record_names())
        return put

    try:
        cluster.change(keys, taken_over)
    except EngineDown as error:
        hint = "only a host that joined with --enrol, or the administrator's machine, can write tokens"
        raise AdministrationFailed(str(error), hint=hint_after(error, hint)) from None
    except DamagedState as error:
        raise AdministrationFailed(str(error), hint="softtoken-fleet(7) says what a broken seal can mean") from None


def _combined(cluster: Cluster, name: str, content: TokenFile, state: State | None, known: Entry) -> State | None:
    """Return the state of the tokens, with what the realm knows of the user. Nothing that was used becomes unused. An
    issued code of this host ends: the realm may have accepted it, or ended it.
    """
    if known.value is None:
        return state
    _, former = cluster.realm.open_state(name, known.value)
    fingerprints = {token.fingerprint() for token in content.tokens}
    return moved_onto(former, state or State.new(), fingerprints).without_issued()
