"""What `enable` would do to a service: the files before and after, and every reason not to. Changes nothing."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterable

from pam_softtoken import pam_client
from pam_softtoken.admin import host_file, sshd
from pam_softtoken.admin.change import FileChange
from pam_softtoken.admin.host_file import Content
from pam_softtoken.errors import AdministrationFailed, UsageError
from pam_softtoken.pam import installed_libpam, known_modules, paths, service_edit, service_file
from pam_softtoken.pam.stack import Stack, places

WITH_PASSWORD, WITH_PUBLIC_KEY = "password", "publickey"


def text_of(path: str) -> str | None:
    """Read a service file, every byte of it."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except IsADirectoryError:
        return ""  # that is what libpam reads of one
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AdministrationFailed(f"{path}: {os.strerror(error.errno or 0)}", hint="make it readable") from None


def require_service(service: str) -> Stack:
    """Read a service of this host.

    Raises:
        UsageError: that is no name of one.
        AdministrationFailed: there is none of that name.
    """
    if "/" in service or "." in service or not service.isprintable() or not service:
        raise UsageError(
            f'"{service}" is no name of a service', hint=f"a file in {service_file.DIRECTORY}, such as sudo"
        )
    stack = service_file.read(service, text_of, installed_libpam.dialect())
    if not stack.file:
        known = sorted(
            os.path.basename(path)
            for path in glob.glob(f"{service_file.DIRECTORY}/*")
            if not os.path.basename(path).startswith("common-") and os.path.basename(path) != service_file.FALLBACK
        )
        raise AdministrationFailed(f'no such service: "{service}"', hint="there are " + ", ".join(known))
    if stack.file == service_file.ONE_FILE:
        raise AdministrationFailed(
            f"{stack.file}: only services in {service_file.DIRECTORY} can be changed", hint="put the line there by hand"
        )
    return stack


class Plan:
    """What would be done.

    Args:
        service: where.
        way: behind what the code is asked for: `WITH_PASSWORD` or `WITH_PUBLIC_KEY`.
        nullok: let those in who have never enrolled.

    Attributes:
        files: before and after.
        stack: the new one.
        text: of the new service file.
        remarks: what the person should know.

    Raises:
        UsageError, AdministrationFailed: it cannot be done.
    """

    def __init__(self, service: str, way: str, *, nullok: bool) -> None:
        if way == WITH_PUBLIC_KEY and service != sshd.SERVICE:
            raise UsageError(f'"{service}" knows no public keys', hint="--with publickey is for sshd")
        old = require_service(service)
        _require_sound(old)
        if old.ours:
            raise AdministrationFailed(
                f'"{service}" asks for a code already: {places(old.ours)}',
                hint=f"softtoken-admin disable {service} first, if it shall ask in another way",
            )
        self.remarks: list[str] = []
        path = f"{service_file.DIRECTORY}/{service}"
        line = service_edit.our_line(pam_client.our_module(), *(["nullok"] if nullok else []))
        self.text = service_edit.put(text_of(old.file) or "", old, line, instead=way == WITH_PUBLIC_KEY)
        self.stack = service_file.read(
            service, lambda each: self.text if each == path else text_of(each), installed_libpam.dialect()
        )
        self._require_asked()
        before = host_file.read(path)
        after = before._replace(data=self.text.encode("utf-8", "surrogateescape"))
        self.files: tuple[FileChange, ...] = (FileChange(path, before, after),)
        if service == sshd.SERVICE:
            self._add_drop_in(way)

    def _require_asked(self) -> None:
        lines = self.stack.of("auth")
        _require_sound(self.stack)
        if len(self.stack.ours) != 1:
            raise AdministrationFailed(
                f"our line would stand {len(self.stack.ours)} times", hint=f"see {places(self.stack.ours)}"
            )
        culprit = paths.bypass(lines)
        if culprit is not None:
            raise AdministrationFailed(
                f"{culprit.place} would let people in without a code: {culprit.control} {culprit.module}",
                hint='let that line be "required", or take it out; the password may not be the last word',
            )
        exempt = [line for line in lines if line.name in known_modules.ROOT_ONLY]
        if exempt and paths.bypass(lines, root_is_asked=True):
            self.remarks.append(f"root itself is not asked, as {exempt[0].place} wants it.")

    def _add_drop_in(self, way: str) -> None:
        before = host_file.read(sshd.DROP_IN)
        new = sshd.drop_in(way)
        if before.data not in (None, new):
            raise AdministrationFailed(f"{sshd.DROP_IN} is there, and not as we make it", hint="move it away first")
        effective = sshd.require_effect(way)
        if way == WITH_PUBLIC_KEY:
            sshd.require_obedient(effective)
        elif effective.get("pubkeyauthentication") == "yes":
            self.remarks.append("who logs in with a public key is not asked for a code; --with publickey asks them.")
        # First there, and last on the way back: PAM does without the password only while sshd asks for a key.
        self.files = (FileChange(sshd.DROP_IN, before, Content(new)), *self.files)
        self.remarks += [f"for some people something else counts: {each}" for each in sshd.blocks_of_their_own(way)]


def _require_sound(stack: Stack) -> None:
    if stack.problems:
        raise AdministrationFailed(
            f"PAM cannot read the service: {stack.problems[0]}", hint="put that line right first; nothing was changed"
        )


def diff(files: Iterable[tuple[str, Content, Content]]) -> str:
    """Show what changes, as `diff -u` does."""
    return "".join(_diff(path, before, after) for path, before, after in files).rstrip("\n")


def _diff(path: str, before: Content, after: Content) -> str:
    old, new = ((each.data or b"").decode("utf-8", "backslashreplace") for each in (before, after))
    names = [path if each.data is not None else "/dev/null" for each in (before, after)]
    lines = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), names[0], names[1])
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
