"""Check that sudo asks for signatures where it should: its plugin, the approver, and the users who sign or cannot."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterator

from pam_softtoken import platform_facts
from pam_softtoken.account import places, signer_records, signers
from pam_softtoken.admin.access import forecast
from pam_softtoken.admin.common import bounded, logins
from pam_softtoken.admin.common.finding import ERROR, NOTE, WARNING, Edit, Finding, Report, named
from pam_softtoken.admin.doctor import root_ways_check
from pam_softtoken.admin.doctor.mode_check import not_roots_alone, writable_below
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.admin.signers import signer_facts
from pam_softtoken.admin.sshd import match_blocks
from pam_softtoken.signing import sudo_conf

APPROVER = f"{os.path.dirname(platform_facts.BACKEND)}/softtoken-approver"
FIRST_WITH_APPROVAL = (1, 9)
_APPROVER = "approver="
_OFF = "softtoken-admin disable sudo --sign"
_ON = "softtoken-admin enable sudo --sign"


def check(_: Services) -> Report:
    """Check the line in sudo.conf and what it needs, then the users."""
    looked_at = (f"sudo's plugin in {sudo_conf.PATH}", "users who sign sudo commands")
    try:
        text = bounded.read(sudo_conf.PATH)
    except FileNotFoundError:
        text = ""
    except OSError as error:
        return Report(not_looked_at=(f"{sudo_conf.PATH}: {error.strerror}",))
    lines = sudo_conf.our_lines(text)
    findings = list(_of_users(is_on=bool(lines)))
    if lines:
        findings = [
            *_of_the_file(), *_of_lines(lines), *_of_plugin(lines[0], text), *_of_sudo(), *_of_approver(lines[0]),
            *_of_the_directory(), *findings, *root_ways_check.check(),
        ]  # fmt: skip
        if sudo_conf.requires(text):
            findings += _of_sudoers()
    return Report(tuple(findings), looked_at)


def _of_the_file() -> Iterator[Finding]:
    """Report a sudo.conf that sudo ignores. It then works without our line, and asks nobody."""
    status = os.stat(sudo_conf.PATH)
    if sudo_conf.is_ignored(status.st_mode, status.st_uid):
        what = "sudo ignores this file, because others than root could change it: nobody is asked for a signature"
        mend = f"chown root {sudo_conf.PATH} && chmod go-w {sudo_conf.PATH}"
        yield Finding(ERROR, sudo_conf.PATH, "", what, mend)


def _of_lines(lines: list[sudo_conf.OurLine]) -> Iterator[Finding]:
    for line in lines:
        place = f"{sudo_conf.PATH}:{line.number}"
        if line.symbol != sudo_conf.SYMBOL or os.path.basename(line.file) != sudo_conf.FILE:
            what = f"sudo finds no {line.symbol} in {line.file}, and starts for nobody"
            yield Finding(ERROR, place, line.text, what, _OFF)
        elif line is not lines[0]:
            what = "sudo knows the plugin from an earlier line, and warns at each use that it ignores this one"
            edit = Edit(sudo_conf.PATH, line.number, line.last, None)
            yield Finding(WARNING, place, line.text, what, str(edit))


def plugin_file(line: sudo_conf.OurLine, text: str) -> str:
    """Return the path of the file that a line names, as sudo finds it.

    Args:
        line: one of ours.
        text: of sudo.conf.
    """
    if line.file.startswith("/"):
        return line.file
    # sudo puts the two together as they are.
    return f"{sudo_conf.plugin_directory(text) or f'{platform_facts.SUDO_PLUGINS}/'}{line.file}"


def _of_plugin(line: sudo_conf.OurLine, text: str) -> Iterator[Finding]:
    path = plugin_file(line, text)
    if not os.path.isfile(path):
        what = f"{path} is missing, and without it sudo starts for nobody"
        yield Finding(ERROR, f"{sudo_conf.PATH}:{line.number}", line.text, what, _OFF)
    yield from not_roots_alone(path)


def _of_sudo() -> Iterator[Finding]:
    answer = bounded.ask(platform_facts.SUDO, "--version")
    said = answer.stdout.partition("\n")[0] if answer is not None else ""
    what = why_unsuitable(said)
    if what:
        other = platform_facts.SUDO_WITH_PLUGINS
        has_other = "no plugins" in what and os.path.exists(other)
        cure = f"update-alternatives --set sudo {other}" if has_other else _OFF
        yield Finding(ERROR, platform_facts.SUDO, "", what, cure)


def why_unsuitable(said: str) -> str:
    """Return why a sudo cannot ask for signatures; empty if it can, or if this is not known.

    Args:
        said: the first line of what `sudo --version` prints.
    """
    if said.startswith("sudo-rs"):
        return f"{said} has no plugins: nobody is asked for a signature"
    found = re.match(r"Sudo version ([0-9]{1,3})\.([0-9]{1,3})", said)
    if found is not None and (int(found[1]), int(found[2])) < FIRST_WITH_APPROVAL:
        return f"{said} has no approval plugins, and starts for nobody with the line in {sudo_conf.PATH}"
    return ""


def _of_approver(line: sudo_conf.OurLine) -> Iterator[Finding]:
    named_there = [word.removeprefix(_APPROVER) for word in line.options if word.startswith(_APPROVER)]
    path = (named_there or [APPROVER])[-1]
    if not os.path.isfile(path):
        what = "the program that asks for signatures is not there, so that sudo refuses everybody who is to sign"
        yield Finding(ERROR, path, "", what, platform_facts.reinstall(common=True))
        return
    yield from not_roots_alone(path)
    package = f"{os.path.dirname(os.path.dirname(os.path.realpath(path)))}/pam_softtoken"
    if os.path.isdir(package):
        yield from writable_below(package)


def _of_the_directory() -> Iterator[Finding]:
    if not os.path.isdir(places.SIGNERS):
        what = (
            "sudo cannot know who signs, and refuses everybody but root; after the command below nobody has a signing "
            "token, so first restore the directory if there is a backup"
        )
        yield Finding(ERROR, places.SIGNERS, "", what, f"mkdir -m 711 {places.SIGNERS}")
    yield from not_roots_alone(places.SIGNERS)


def _of_users(*, is_on: bool) -> Iterator[Finding]:
    """Report users with a mark whom sudo refuses, or will not ask after a change of the account."""
    now = int(time.time())
    idle = []
    marks = {*signer_records.uids(), *signer_records.names()}
    for entry in logins.everybody() if marks else ():
        name, uid = entry.pw_name, entry.pw_uid
        if not {name, uid} & marks:
            continue
        facts, path = signer_facts.facts_of(name, uid, now=now), signers.uid_mark(uid)
        if facts["problem"]:
            severity = NOTE if facts["revoked"] else WARNING
            status = f"softtoken-admin status {shlex.quote(name)}"
            yield Finding(severity, path, "", f"{name}: {facts['problem']}", facts["cure"] or status)
            continue
        idle.append(name)
        if name not in marks:
            what = f"{name} has no mark by name: with another uid, sudo would ask {name} for nothing"
            yield Finding(WARNING, path, "", what, f"touch {shlex.quote(signers.name_mark(name))}")
    if idle and not is_on:
        what = f"these users have signing tokens, and sudo asks nobody for a signature: {named(idle)}"
        yield Finding(NOTE, places.SIGNERS, "", what, _ON)


def _of_sudoers() -> Iterator[Finding]:
    """Report users who may use sudo and cannot sign, where everybody has to."""
    now = int(time.time())
    people = forecast.look_around((), sudo=True).people
    for person in people:
        facts = signer_facts.facts_of(person.name, person.uid, now=now)
        if person.uid != 0 and person.sudo == match_blocks.YES and not facts["marked"]:
            what = f"sudo refuses {person.name}: everybody has to sign, and {person.name} has no signing token"
            yield Finding(WARNING, signers.uid_mark(person.uid), "", what, signer_facts.enrolling(person.name))
