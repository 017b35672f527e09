"""What helps when a user's files are refused. This is the only owner of that knowledge: logins, programs and the doctor
ask here. Root runs these commands where the user can plant links meanwhile. So root's own chmod or chown never gets a
path in a home. Such a command runs as the user (runuser), or it is one of our programs, which opens each part of the
path as `safe_open` does. A home directory itself is safe, because only root can exchange it. Does no I/O. A login loads
it only after a file is refused.
"""

from __future__ import annotations

from pam_softtoken import errors, option_table
from pam_softtoken.account import places
from pam_softtoken.errors import (
    DENIED,
    EXPLAINED,
    FOREIGN,
    FULL,
    HARD_LINKED,
    IMMUTABLE,
    LINK,
    MISSING,
    NO_DIRECTORY,
    NO_FILE,
    NO_KEY,
    NOT_LOADED,
    READ_ONLY,
    READABLE,
    WRITABLE,
    WRONG_KEY,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.location import Location

_HOME, _ABOVE, _BELOW, _ROOTS, _STORE, _ROOTS_STORE = "home", "above", "below", "roots", "store", "roots-store"
"""What is to blame: the home directory, a directory above it, the user's directory below it, root's directory with the
tokens of all users, or the user's own directory with the two files, in the home or in root's store.
"""
_MEND = "softtoken-admin mend {user}"
_FORCE = "softtoken-enroll --user {user} --force"
_AS_OWNER = "{as_owner}"
_AWAY = "{as_owner}mv -T {culprit} {culprit}.old"
_REMOUNT = "mount -o remount,rw $(findmnt -n -o TARGET -T {place})"
_COMMANDS = {
    (_HOME, MISSING): "mkhomedir_helper {user}",
    (_HOME, FOREIGN): "chown -h --from={owner} {user} {culprit}",
    (_HOME, IMMUTABLE): "chattr -i {culprit}",
    (_HOME, WRITABLE): "{as_owner}chmod go-w {culprit}",
    (_HOME, DENIED): "{as_owner}chmod u+rwx {culprit}",
    (_ABOVE, DENIED): "chmod a+x {culprit}",
    (_BELOW, WRITABLE): "{as_owner}chmod go-w {culprit}",
    (_BELOW, DENIED): "{as_owner}chmod u+rwx {culprit}",
    (_BELOW, FOREIGN): _AWAY,
    (_BELOW, LINK): _AWAY,
    (_BELOW, NO_DIRECTORY): _AWAY,
    (_ROOTS, FOREIGN): "chown -h --from={owner} root {culprit}",
    (_ROOTS, WRITABLE): "chmod go-w {culprit}",
    (_ROOTS, MISSING): "install -d -m 700 {culprit}",
    (_ROOTS, IMMUTABLE): "chattr -i {culprit}",
    **{(place, kind): _FORCE for place in (_STORE, _ROOTS_STORE) for kind in (NO_DIRECTORY, NO_FILE)},
    **{
        (place, kind): _MEND
        for place in (_STORE, _ROOTS_STORE)
        for kind in (WRITABLE, READABLE, DENIED, FOREIGN, LINK, HARD_LINKED, IMMUTABLE)
    },
    (_ROOTS_STORE, LINK): _FORCE,
}
"""For each thing to blame and each fault, a command for root's shell."""
_OWN = {
    (_STORE, WRITABLE): "chmod -R go= {path}",
    (_STORE, READABLE): "chmod -R go= {path}",
    (_STORE, DENIED): "chmod -R u+rwX {path}",
}
"""The same for the user's own shell, where another command does as well and needs no root."""
_ANEW = "softtoken-enroll --force"
_OR_FORCE = "softtoken-enroll --force makes a new token instead"
_ELSEWHERE = f"or let root keep the tokens, with store={places.SYSTEM_STORE} in {option_table.DEFAULT_CONF}"
_ADVICE = {
    (_HOME, MISSING): _ELSEWHERE,
    (_HOME, FOREIGN): _ELSEWHERE,
    (_ABOVE, DENIED): _ELSEWHERE,
    (_BELOW, FOREIGN): "then restore what belongs there",
    (_BELOW, LINK): "then restore what belongs there",
    (_ROOTS, DENIED): "only services that run as root can read it",
    (_STORE, FOREIGN): _OR_FORCE,
    (_STORE, LINK): _OR_FORCE,
    (_STORE, HARD_LINKED): _OR_FORCE,
}
"""Further advice, or the only advice if there is no command."""
_OF_RECORDS = {READ_ONLY: "mount -o remount,rw /run", MISSING: "mkdir -m 755 /run"}
"""Commands for root's record of what was used while a home is read-only."""
_RECOVER = "softtoken-admin seal --recover"
_OF_KEYS = {NO_KEY: _RECOVER, WRONG_KEY: _RECOVER, NOT_LOADED: "systemctl restart softtoken-key.service"}
"""Commands for a sealed token file that has no key."""
_SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"


class Cure:
    """What helps.

    Args:
        command: a command for root's shell; empty if there is none.
        own: the same for the user's own shell, if that needs no root.
        advice: further advice, or the only advice.
    """

    __slots__ = ("advice", "command", "own")

    def __init__(self, command: str = "", *, own: str = "", advice: str = "") -> None:
        self.command = command
        self.own = own
        self.advice = advice

    def for_log(self) -> str:
        """Return the text for the log of a login. It follows the description of the fault."""
        return f"as root: {self.command}" if self.command else self.advice

    def hint(self, *, is_root: bool) -> str:
        """Return the text that a program prints after `hint:`.

        Args:
            is_root: the text is for an administrator, not for the user.
        """
        command = self.command if is_root else self.own
        words = f"run: {command}" if command else ""
        if self.command and not command:
            words = f"ask an administrator for: {self.command}"
        return "; ".join(each for each in (words, self.advice) if each)


def of(error: errors.PathError, location: Location) -> Cure:
    """Return what helps against a fault in a user's files.

    Args:
        error: what is wrong.
        location: whose files, and where.
    """
    if error.kind == EXPLAINED or error.path.startswith(places.RUN):
        return _of_record(error) if error.kind != EXPLAINED else Cure()
    if isinstance(error, (errors.DamagedState, errors.BadTokenFile)):
        return _of_content(error, location)
    if error.kind == FULL:
        return Cure(advice=f"make room on the disk of {location.path}, and start again")
    account = location.account
    if error.kind == READ_ONLY:
        place = account.home if location.in_home else location.path.rpartition("/")[0]
        return Cure(_REMOUNT.format(place=quoted(place or "/")))
    if location.in_home and not account.home.startswith("/"):
        return Cure(f"usermod --home DIRECTORY {quoted(account.name)}", advice=_ELSEWHERE)
    return _of_place(error, location)


def add_to(error: Exception, location: Location) -> None:
    """Store in an error what helps against it, for the log of a login."""
    if isinstance(error, errors.PathError):
        error.cure = of(error, location).for_log()
    elif isinstance(error, errors.NotEnrolled):
        error.cure = f"as root: softtoken-enroll --user {quoted(location.account.name)}"


def _of_record(error: errors.PathError) -> Cure:
    """Return what helps if root's record for a read-only home is refused."""
    if isinstance(error, errors.DamagedState):
        said = "this forgets which codes were used while the home was read-only"
        return Cure(f"rm {quoted(error.path)}", advice=said)
    if isinstance(error, errors.NotStored) and error.kind in _OF_RECORDS:
        return Cure(_OF_RECORDS[error.kind])
    return Cure(
        advice="root keeps there what was used while the home was read-only, until the next login through sshd or su"
    )


def _of_content(error: errors.PathError, location: Location) -> Cure:
    """Return what helps if a file is sound and its content is not."""
    user = quoted(location.account.name)
    if isinstance(error, errors.DamagedState):
        own = f"rm {quoted(location.path + '/state')}" if location.in_home else ""
        return Cure(f"softtoken-admin reset-state {user}", own=own)
    force = _FORCE.format(user=user)
    if isinstance(error, errors.OtherAccount):
        return Cure(advice="an administrator can run that command, which first says whose tokens they are")
    if isinstance(error, errors.Sealed) and error.kind in _OF_KEYS:
        advice = f"if that fails: {_RECOVER}" if error.kind == NOT_LOADED else "it asks for the recovery key"
        return Cure(_OF_KEYS[error.kind], advice=advice)
    return Cure(force, own=_ANEW if location.in_home else "")


def _of_place(error: errors.PathError, location: Location) -> Cure:
    account, culprit = location.account, error.culprit
    key = (_place_of(culprit, location), error.kind)
    template = _COMMANDS.get(key, "")
    if key == (_HOME, DENIED) and error.owner != account.uid:
        template = _MEND  # the home is root's, so only root can make a directory in it
    if key[0] == _BELOW and key[1] not in (LINK, FOREIGN, NO_DIRECTORY) and error.owner != account.uid:
        template = _AWAY
    is_users_own = location.in_home and account.uid != 0
    is_theirs = error.owner in (account.uid, -1) or template == _AWAY
    names = {
        "user": quoted(account.name),
        "owner": str(error.owner),
        "culprit": quoted(culprit),
        "path": quoted(location.path),
        "as_owner": f"runuser -u {quoted(account.name)} -- " if is_users_own and is_theirs else "",
    }
    own = ""
    if location.in_home and is_theirs:
        own = _OWN.get(key, _ANEW if template == _FORCE else "")
        if template.startswith(_AS_OWNER):
            own = template.removeprefix(_AS_OWNER)
    advice = _ADVICE.get(key, "" if template else f"see what is wrong with {culprit}")
    return Cure(template.format(**names), own=own.format(**names), advice=advice)


def _place_of(culprit: str, location: Location) -> str:
    home = location.account.home.rstrip("/") or "/"
    if culprit == location.path or _is_above(location.path, culprit):
        return _STORE if location.in_home else _ROOTS_STORE
    if not _is_above(culprit, location.path):
        return ""
    if not location.in_home:
        return _ROOTS
    if culprit.rstrip("/") == home.rstrip("/"):
        return _HOME
    return _ABOVE if _is_above(culprit, home) else _BELOW


def _is_above(directory: str, path: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def quoted(word: str) -> str:
    """Return a word quoted for a shell. `shlex` is not used: it needs `re`, which loads too slowly for a login.

    >>> print(quoted("/home/alice"), quoted("it's"))
    /home/alice 'it'"'"'s'
    """
    if word and not word.strip(_SAFE):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"
