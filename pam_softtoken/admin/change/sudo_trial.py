"""Try a new sudo.conf before it is in use: run sudo in a private mount namespace where it is already there.

There, sudo must run a command of root's, refuse one of a user with the mark of a signer, and treat other users as the
new configuration says. The user is `nobody`, with a mark and a rule of sudoers that exist only in that namespace. sudo
logs these commands with the word `TRIAL`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pam_softtoken import platform_facts
from pam_softtoken.account import places, roots_files, signers, user_lookup
from pam_softtoken.admin.change import sudo_checks
from pam_softtoken.admin.common import bounded
from pam_softtoken.errors import LookUpFailed, UnknownUser
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.signing import sudo_conf

NOBODY = "nobody"
TRIAL = "softtoken-admin-trial"
SUDOERS = "/etc/sudoers"
_RULES = "root ALL=(ALL) NOPASSWD: ALL\n#{} ALL=(ALL) NOPASSWD: ALL\n"
_MOUNTED = "mounted"
_LIMIT_S = 60.0
_SCRIPT = r"""
set -eu
directory=$1 conf=$2 data=$3 sudoers=$4 sudo=$5 trial=$6 uid_mark=$7 name_mark=$8
shift 8

# Without the terminal: sudo would wait for its turn to use it.
try() {
	name=$1
	shift
	status=0
	setsid -w timeout -k 1 10 "$@" "$sudo" -n true "$trial" </dev/null >/dev/null 2>"$directory/$name" || status=$?
	echo "$name $status"
}

mount -t tmpfs -o mode=711 tmpfs "$data"
mkdir -m 711 "$(dirname "$uid_mark")"
mount --bind "$directory/sudoers" "$sudoers"
try before-nobody "$@"
umount "$sudoers"
try before-root
if [ -e "$conf" ]; then
	mount --bind "$directory/sudo.conf" "$conf"
else
	mkdir "$directory/upper" "$directory/work"
	mount -t overlay -o "lowerdir=$(dirname "$conf"),upperdir=$directory/upper,workdir=$directory/work" \
		overlay "$(dirname "$conf")"
	cp "$directory/sudo.conf" "$conf"
fi
echo mounted
try root
mount --bind "$directory/sudoers" "$sudoers"
try root-alone
try unmarked "$@"
mkdir -m 700 "$uid_mark"
: >"$name_mark"
try marked "$@"
"""


def run(text: str) -> str:
    """Try a new text of sudo.conf.

    Returns:
        What was found out, as a sentence for the administrator, or why nothing could be tried.

    Raises:
        AdministrationFailed: sudo would not do with it what it should.
    """
    try:
        nobody = user_lookup.account_of_name(NOBODY)
        roots_files.make_directory(places.DATA)
    except (UnknownUser, LookUpFailed, OSError) as error:
        return f"Not tried before use: {error}."
    with tempfile.TemporaryDirectory(prefix="softtoken-trial-", dir="/run") as directory:
        _write(directory, "sudo.conf", text, 0o644)
        _write(directory, "sudoers", _RULES.format(nobody.uid), 0o440)
        words = (
            directory, sudo_conf.PATH, places.DATA, SUDOERS, platform_facts.SUDO, TRIAL,
            signers.uid_mark(nobody.uid), signers.name_mark(nobody.name),
            "setpriv", f"--reuid={nobody.uid}", f"--regid={nobody.gid}", "--clear-groups",
        )  # fmt: skip
        answer = bounded.ask(
            "unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh", *words, limit_s=_LIMIT_S
        )
        lines = answer.stdout.splitlines() if answer is not None else []
        if _MOUNTED not in lines:
            why = sudo_checks.terse(answer.stderr) if answer is not None else "it took too long, or unshare is missing"
            return f"Not tried before use, because a private mount is not possible here: {why or 'no reason given'}."
        statuses = {name: int(status) for name, _, status in (line.partition(" ") for line in lines) if status}
        said = {name: sudo_checks.terse(_read(directory, name)) for name in statuses}
    return _judge(statuses, said, required=sudo_conf.requires(text))


def _judge(statuses: dict[str, int], said: dict[str, str], *, required: bool) -> str:
    """Return what the exit statuses of sudo prove. A missing one is of a command that was not reached.

    What fails without the new line, too, proves nothing about it. Some hosts forbid root to use sudo.
    """
    works = {name: statuses.get(f"before-{name}") == 0 for name in ("root", NOBODY)}
    for name, is_proof in (("root", works["root"]), ("root-alone", works[NOBODY])):
        if is_proof and statuses.get(name) != 0:
            raise _failed("sudo would not even run a command of root's", said.get(name, ""))
    if not works[NOBODY]:
        tried = "sudo works for root with the new line" if works["root"] else "nothing"
        return f"Tried: {tried}. Not tried as {NOBODY}, whom sudo refuses anyway: {said.get(f'before-{NOBODY}', '')}"
    for name, is_asked in (("marked", True), ("unmarked", required)):
        who = "a user with a signing token" if name == "marked" else "users without a signing token"
        status, words = statuses.get(name), said.get(name, "")
        if is_asked and status == 0:
            raise _failed(f"our plugin lets {who} through without a signature", words)
        if (is_asked and status != 1) or "cannot be checked" in words:
            raise _failed("our plugin does not work", words or f"the exit status is {status}")
        if not is_asked and status != 0:
            raise _failed(f"our plugin stops {who}", words)
    rest = "refuses the others" if required else "asks nobody else"
    return f"Tried: with the new line, sudo works for root, asks users with a signing token to sign, and {rest}."


def _failed(what: str, why: str) -> AdministrationFailed:
    return AdministrationFailed(
        f"{what}{': ' if why else ''}{why}; nothing was changed",
        hint=f"the system log may say more; to install it again: {platform_facts.install_sudo_plugin(again=True)}",
    )


def _write(directory: str, name: str, text: str, mode: int) -> None:
    path = Path(directory, name)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(mode)


def _read(directory: str, name: str) -> str:
    return Path(directory, name).read_text(encoding="utf-8", errors="replace")
