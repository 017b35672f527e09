"""Implement `softtoken-admin mend`: repair a user's files that every login refuses, so that the tokens count again.

Such files came back from a backup with another owner or mode, have a second hard link, or are links. A home directory
on a disk that does not answer cannot block the command: the work is done in a separate process with a time limit.
"""

from __future__ import annotations

from pam_softtoken.account import enrolled_mark
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.location import Location
from pam_softtoken.account.mending import Mender
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.account.user_lookup import account_of
from pam_softtoken.admin.common import bounded, deed, logins, person
from pam_softtoken.config import Config
from pam_softtoken.errors import PathError, Refused, SoftTokenError
from pam_softtoken.program_errors import AdministrationFailed, ProgramError
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command

LIMIT_S = 60.0


def _run(screen: terminal.Terminal, options: person.UserOptions) -> None:
    person.require_root(f"mend {options.user}")
    settings = person.settings_of(options.store)
    location = person.location_of(options.user, settings)
    try:
        done, trouble, hint = bounded.answer_of(lambda: _mended(location, settings), limit_s=LIMIT_S)
    except TimeoutError:
        raise AdministrationFailed(
            f"{location.path}: does not answer, or the disk of another user whose keys are compared does not",
            hint=f"start again when it does; softtoken-enroll --user {options.user} --force makes a new token",
        ) from None
    except ValueError:
        raise AdministrationFailed(
            f"{location.path}: the work on it ended before it was complete", hint="start again"
        ) from None
    if done:
        deed.record("mend", options.user)
        screen.tell(f"Done: {done}.")
    if trouble:
        raise AdministrationFailed(trouble, hint=hint)
    if not done:
        screen.tell(f"The files in {location.path} are in order; nothing was changed.")


def _mended(location: Location, settings: Config) -> tuple[str, str, str]:
    """Repair the files of a user.

    Returns:
        What was done, what is still wrong, and a hint for it.
    """
    done = ""
    try:
        done = Mender(location, lambda content, uid: _is_somebody_elses(content, uid, location, settings)).mend()
        store = Editor(location)
        try:
            store.open_enrolled()
            store.glance_at_state()
        finally:
            store.close()
    except PathError as error:
        return done, str(error), person.hint_for(error, location)
    except ProgramError as error:
        return done, error.message, error.hint
    except Refused:
        absent = person.not_enrolled(location)
        if done:
            return f"{done}; softtoken-enroll --user {location.account.name} makes a token", "", ""
        return done, absent.message, absent.hint
    return done, "", ""


def _is_somebody_elses(content: TokenFile, uid: int, location: Location, settings: Config) -> bool:
    """Check whether another user is enrolled with a key of this token file, or its owner was a user who is gone."""
    entries = logins.everybody()
    is_gone = uid != 0 and uid not in {entry.pw_uid for entry in entries}
    if is_gone and enrolled_mark.name_of(uid) not in ("", location.account.name):
        return True
    keys = {token.fingerprint() for token in content.tokens}
    for entry in entries:
        if entry.pw_uid == location.account.uid:
            continue
        try:
            account = account_of(entry)
            account.look_up_groups()  # the way to their home directory may be open to only one of them
            store = Editor(Location(settings.store, account))
            try:
                others = {token.fingerprint() for token in store.open_enrolled().tokens}
            finally:
                store.close()
        except (SoftTokenError, OSError, ValueError):
            continue  # without a token that counts, the user loses nothing
        if keys & others:
            return True
    return False


MEND = Command(
    "mend",
    "repair the files of a user that logins refuse, for instance after a restore",
    person.add_user,
    person.UserOptions,
    _run,
)
