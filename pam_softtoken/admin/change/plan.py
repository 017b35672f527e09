"""Plan what `enable` would do to a service: the files before and after, and every objection. Change nothing."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from pam_softtoken import platform_facts
from pam_softtoken.admin.change.record import FileChange
from pam_softtoken.admin.common import host_file
from pam_softtoken.admin.common.host_file import Content
from pam_softtoken.admin.services import exempt as exempt_lines
from pam_softtoken.admin.services import pam_profile
from pam_softtoken.admin.services.stack_check import read_services
from pam_softtoken.admin.sshd import server
from pam_softtoken.pam import client, installed_libpam, jumps, known_modules, paths, service_edit, service_file
from pam_softtoken.pam.stack import Stack, places
from pam_softtoken.program_errors import AdministrationFailed, UsageError

WITH_PASSWORD, WITH_PUBLIC_KEY = "password", "publickey"
EMPTY: Mapping[str, str] = MappingProxyType({})


def text_of(path: str) -> str | None:
    """Read a whole service file; return None if it does not exist."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except IsADirectoryError:
        return ""  # libpam reads a directory as an empty file
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AdministrationFailed(f"{path}: {os.strerror(error.errno or 0)}", hint="make it readable") from None


def require_service(service: str) -> Stack:
    """Read a service of this host.

    Raises:
        UsageError: this cannot be the name of a service.
        AdministrationFailed: there is no service of that name.
    """
    if "/" in service or "." in service or not service.isprintable() or not service:
        raise UsageError(
            f'"{service}" is not the name of a service', hint=f"a file in {service_file.DIRECTORY}, such as sudo"
        )
    stack = service_file.read(service, text_of, installed_libpam.dialect())
    if not stack.file:
        known = sorted(
            os.path.basename(path)
            for path in glob.glob(f"{service_file.DIRECTORY}/*")
            if not platform_facts.is_included_only(os.path.basename(path))
            and os.path.basename(path) != service_file.FALLBACK
        )
        raise AdministrationFailed(f'no such service: "{service}"', hint="there are " + ", ".join(known))
    if stack.file == service_file.ONE_FILE:
        raise AdministrationFailed(
            f"{stack.file}: only services in {service_file.DIRECTORY} can be changed", hint="put the line there by hand"
        )
    return stack


class Plan:
    """The plan of a change.

    Args:
        service: the name of the service.
        way: what comes before the code: `WITH_PASSWORD` or `WITH_PUBLIC_KEY`.
        nullok: let users in without a code if they have never enrolled.
        exempt: groups whose members are not asked for a code.
        today: sshd's settings for users whom no Match block selects; empty for other services.

    Attributes:
        files: the files before and after.
        old, stack: the present service, and the new one.
        text: the text of the new service file.
        settings: the sshd settings in our file; empty for other services.
        remarks: what the administrator should know.

    Raises:
        UsageError, AdministrationFailed: the change is not possible.
    """

    def __init__(
        self, service: str, way: str, *, nullok: bool, exempt: Sequence[str] = (), today: Mapping[str, str] = EMPTY
    ) -> None:
        if way == WITH_PUBLIC_KEY and service != server.SERVICE:
            raise UsageError(f'"{service}" does not use public keys', hint="--with publickey is for sshd")
        self.old = require_service(service)
        _require_sound(self.old)
        if self.old.ours:
            raise AdministrationFailed(
                f'"{service}" asks for a code already: {places(self.old.ours)}',
                hint=f"to ask in another way, turn it off first: {pam_profile.way_off(service, self.old.ours[0])}",
            )
        self.remarks: list[str] = []
        self.way = way
        path = f"{service_file.DIRECTORY}/{service}"
        if way == WITH_PUBLIC_KEY:
            _require_not_shared(service, path)
        line = service_edit.our_line(client.our_module(), *(["nullok"] if nullok else []))
        # After a public key, no other line accepts the user when our module returns PAM_IGNORE.
        ours = exempt_lines.lines_with(line, exempt, permit=nullok and way == WITH_PUBLIC_KEY)
        self.text = service_edit.put(text_of(self.old.file) or "", self.old, ours, instead=way == WITH_PUBLIC_KEY)
        self.text = self._fenced(path)
        self.stack = self._read(service, path, self.text)
        self._require_asked()
        before = host_file.read(path)
        after = before._replace(data=self.text.encode("utf-8", "surrogateescape"))
        self.files: tuple[FileChange, ...] = (FileChange(path, before, after), *self._twins(path, ours))
        self.settings: dict[str, str] = {}
        if service == server.SERVICE:
            self.settings = server.settings_for(way, today)
            self._add_drop_in(server.drop_in(self.settings, exempt_lines.match_blocks(exempt, today)))

    @property
    def touched(self) -> list[Stack]:
        """Return the new service, and the new form of the screen lockers that include its file."""
        path = f"{service_file.DIRECTORY}/{self.old.service}"
        lockers = [self._read(each, path, self.text) for each in sorted(service_file.LOCKERS - {self.old.service})]
        return [self.stack, *(each for each in lockers if each.file and each.ours)]

    @staticmethod
    def _read(service: str, path: str, text: str) -> Stack:
        """Read a service with one file's text replaced."""
        return service_file.read(
            service, lambda each: text if each == path else text_of(each), installed_libpam.dialect()
        )

    def _fenced(self, path: str) -> str:
        """Return the new text. If a right password would end the stack in an included file, as in Fedora's system-auth,
        that file becomes a substack.
        """
        before = self._read(self.old.service, path, self.text)
        culprit = paths.bypass(exempt_lines.asked(before.of("auth")))
        if culprit is None or not culprit.via or before.problems:
            return self.text
        text = service_edit.fenced(self.text, before, culprit.outermost)
        after = self._read(self.old.service, path, text)
        if text == self.text or paths.bypass(exempt_lines.asked(after.of("auth"))) is not None:
            return self.text
        self.remarks.append(
            f"{culprit.outermost} includes as a substack, so that {culprit.place} does not skip the code."
        )
        return text

    def _twins(self, path: str, ours: str) -> Iterator[FileChange]:
        """Return the changes that make other services of the same program ask for a code, too."""
        service = self.old.service
        for twin in [each for pair in service_file.TWINS if service in pair for each in pair if each != service]:
            own = f"{service_file.DIRECTORY}/{twin}"
            before = host_file.read(own)
            stack = self._read(twin, path, self.text)
            if before.data is None or stack.ours or stack.problems:
                continue
            try:
                text = service_edit.put(before.data.decode("utf-8", "surrogateescape"), stack, ours)
            except jumps.CannotEdit:
                text = ""
            new = self._read(twin, own, text)
            if not new.ours or paths.bypass(exempt_lines.asked(new.of("auth"))) is not None:
                self.remarks.append(f"{own} is another way to the same place, and does not ask for a code.")
                continue
            yield FileChange(own, before, before._replace(data=text.encode("utf-8", "surrogateescape")))

    def _require_asked(self) -> None:
        lines = self.stack.of("auth")
        _require_sound(self.stack)
        if len(self.stack.ours) != 1:
            raise AdministrationFailed(
                f"our line would be there {len(self.stack.ours)} times", hint=f"see {places(self.stack.ours)}"
            )
        asked = exempt_lines.asked(lines)
        culprit = paths.bypass(asked)
        if culprit is not None:
            raise AdministrationFailed(
                f"{culprit.place} would let people in without a code: {culprit.control} {culprit.module}",
                hint='make that line "required", or remove it: a right password must not end the stack',
            )
        over = [line for line in jumps.over(lines, self.stack.ours[0]) if not exempt_lines.group_of(line)]
        if over:
            raise AdministrationFailed(
                f"{over[0].place} jumps over the place of our line, and would land elsewhere",
                hint="remove that jump, or add our line to the service by hand",
            )
        exempt = [line for line in lines if line.name in known_modules.ROOT_ONLY]
        if exempt and paths.bypass(asked, root_is_asked=True):
            self.remarks.append(f"root is not asked, because of {exempt[0].place}.")

    def _add_drop_in(self, new: bytes) -> None:
        before = host_file.read(server.DROP_IN)
        if before.data is not None and not server.is_drop_in(before.data):
            raise AdministrationFailed(
                f"{server.DROP_IN} is there, and its content is not ours", hint="move it away first"
            )
        # Written first and removed last: PAM may skip the password only while sshd asks for a key.
        self.files = (FileChange(server.DROP_IN, before, Content(new)), *self.files)


def _require_not_shared(service: str, path: str) -> None:
    """Check that no other service uses a file. Such a service would skip the password and ask for no key."""
    real = os.path.realpath(path)
    for name, stack in read_services().stacks.items():
        used = {stack.file, *(place.file for line in stack.of("auth") for place in (line.place, *line.via))}
        if name != service and real in {os.path.realpath(each) for each in used if each}:
            raise AdministrationFailed(
                f'"{name}" uses {path}, too, and would let people in without a password',
                hint=f"let {service_file.DIRECTORY}/{name} have its own lines first; nothing was changed",
            )


def _require_sound(stack: Stack) -> None:
    if stack.problems:
        raise AdministrationFailed(
            f"PAM cannot read the service: {stack.problems[0]}", hint="correct that line first; nothing was changed"
        )


def diff(files: Iterable[tuple[str, Content, Content]]) -> str:
    """Return the differences in the format of `diff -u`."""
    return "".join(_diff(path, before, after) for path, before, after in files).rstrip("\n")


def _diff(path: str, before: Content, after: Content) -> str:
    old, new = ((each.data or b"").decode("utf-8", "backslashreplace") for each in (before, after))
    names = [path if each.data is not None else "/dev/null" for each in (before, after)]
    lines = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), names[0], names[1])
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
