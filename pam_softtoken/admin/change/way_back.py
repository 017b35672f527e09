"""Undo a change: decide what happens to each file, and in which order files and sshd are restored.

If PAM skips the password because sshd asks for a key, the order matters. First check that sshd will follow. Then let
PAM ask for the password again. Only then may sshd stop asking for the key. With only one of the two restored, users
without a password would be locked out.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from pam_softtoken import platform_facts
from pam_softtoken.admin.change.record import Change, FileChange
from pam_softtoken.admin.common import bounded, host_file
from pam_softtoken.admin.common.host_file import Content
from pam_softtoken.admin.services import exempt
from pam_softtoken.admin.sshd import process, server
from pam_softtoken.pam import installed_libpam, service_edit, service_file
from pam_softtoken.pam.jumps import CannotEdit
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.signing import sudo_conf


class Step(NamedTuple):
    """One file to restore.

    Args:
        path: the path of the file in the change.
        place: where it is now; another path if a link has replaced it.
        present, target: the present content, and the content to write.
        told: what the administrator must know; empty if the file was not changed by others.
    """

    path: str
    place: str
    present: Content
    target: Content
    told: str

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to write."""
        return self.present == self.target


def plan(change: Change) -> list[Step]:
    """Plan to restore all files. If somebody else has changed a file, remove only our lines.

    Raises:
        AdministrationFailed: a program cannot repair the file in its present state.
    """
    return [_step(each) for each in reversed(change.files)]


def take(change: Change, steps: list[Step]) -> str:
    """Carry out the steps of `plan`, and make sshd reload its configuration if necessary.

    Returns:
        What sshd did, for the administrator; empty if sshd is not involved.

    Raises:
        AdministrationFailed: some files are not restored. The remaining steps can be repeated.
    """
    own = next((step for step in steps if step.path == server.DROP_IN), None)
    if own is not None and any(_brings_password_back(step) for step in steps):
        for step in steps:
            if not step.is_done:
                host_file.require_replaceable(step.place)
        process.require_would_follow(own.target.data)
    for step in steps:
        if not step.is_done:
            put = host_file.put_back if step.place == step.path else host_file.write
            put(step.place, step.target)
    told = process.reload() if own is not None else ""
    for each in change.files:
        host_file.tidy(each.path)
    return told


def _brings_password_back(step: Step) -> bool:
    return not step.is_done and service_edit.asks_no_password(text_of(step.present))


def _step(each: FileChange) -> Step:
    place = host_file.resolved(each.path)
    present = host_file.read(place)
    moved = "" if place == each.path else f"{each.path} has become a link to {place}: that file is changed instead"
    if present.data == each.before.data:
        return Step(each.path, place, present, present, "")
    if present.data == each.after.data:
        return Step(each.path, place, present, _as_before(each, present), moved)
    if present.data is None:
        told = f"{each.path} is gone: somebody else has removed it, and it is not made again"
        return Step(each.path, place, present, present, told)
    told = f"{each.path} was changed by somebody else meanwhile: only our lines are taken out"
    target = present._replace(data=_without_ours(present, each))
    return Step(each.path, place, present, target, "; ".join(filter(None, (moved, told))))


def _as_before(each: FileChange, present: Content) -> Content:
    """Return the earlier content of a file, with the mode and the owner that it has now."""
    if each.before.data is None:
        return each.before
    before, after = each.before, each.after
    return Content(
        before.data,
        before.mode if present.mode == after.mode else present.mode,
        before.uid if present.uid == after.uid else present.uid,
        before.gid if present.gid == after.gid else present.gid,
    )


def without_our_line(path: str, text: str) -> str:
    """Return the text of a service file without our line and the lines that belong to it.

    Raises:
        AdministrationFailed: another line jumps over ours and cannot be changed.
    """
    try:
        return exempt.take_out(text, installed_libpam.dialect(), bounded.Reading().text)
    except CannotEdit as error:
        raise AdministrationFailed(f"{path}: {error.message}", hint=error.hint) from None


def _without_ours(present: Content, each: FileChange) -> bytes | None:
    if os.path.dirname(each.path) == service_file.DIRECTORY:
        return without_our_line(each.path, text_of(present)).encode("utf-8", "surrogateescape")
    if each.path == sudo_conf.PATH:
        before, now = text_of(each.before), sudo_conf.without_lines(text_of(present))
        if sudo_conf.asks(before):  # a change of its option
            directory = platform_facts.SUDO_PLUGINS
            now = sudo_conf.with_line(now, required=sudo_conf.requires(before), directory=directory)
        return now.encode("utf-8", "surrogateescape")
    ours = set((each.after.data or b"").splitlines())
    data = present.data or b""
    kept = [line for line in data.splitlines(keepends=True) if line.rstrip(b"\n") not in ours]
    return b"".join(kept) if kept or each.before.data is not None else None


def text_of(content: Content) -> str:
    """Return the bytes of a file as text, without loss."""
    return (content.data or b"").decode("utf-8", "surrogateescape")
