"""Check the XML of a key container (RFC 6030) for faults that the library which reads it would accept. Does no I/O. It
refuses document types, and with them entities of every kind, so that no text grows and no file is fetched. It also
refuses deep nesting, repeated elements, values in a wrong form, and encrypted keys without a MAC.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from xml.parsers import expat

from pam_softtoken.program_errors import Unreadable

_MAX_DEPTH = 32
_ONCE = (
    "EncryptionKey",
    "MACMethod",
    "Data",
    "Secret",
    "Counter",
    "Time",
    "TimeInterval",
    "TimeDrift",
    "PlainValue",
    "EncryptedValue",
    "ValueMAC",
    "CipherData",
    "CipherValue",
    "EncryptionMethod",
    "AlgorithmParameters",
    "ResponseFormat",
    "Suite",
    "Policy",
    "PINPolicy",
    "UserId",
)
_BASE64 = ("CipherValue", "ValueMAC", "Specified")
_VALUES = (*_BASE64, "PlainValue")
_INTEGER = re.compile(r"-?[0-9]{1,19}\Z")


@dataclass(slots=True)
class Survey:
    """The result of the check.

    Attributes:
        lines: line numbers of the keys.
        encrypted: whether a value is encrypted.
    """

    lines: list[int] = field(default_factory=list)
    encrypted: bool = False


class _Surveyor:
    """Checks the XML. The parser calls its methods."""

    def __init__(self) -> None:
        self.seen = Survey()
        self.parser = expat.ParserCreate("utf-8", namespace_separator=" ")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._document_type
        self.parser.XmlDeclHandler = self._declaration
        self.parser.CommentHandler = self.parser.ProcessingInstructionHandler = self._aside
        self._open: list[tuple[str, set[str]]] = []
        self._words: list[str] = []
        self._wrapped = False  # key wrapping (RFC 3394) has its own check

    def _place(self) -> str:
        return f"line {self.parser.CurrentLineNumber}"

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        # If two parsers understood an encoding differently, they would see two different files.
        if (encoding or "utf-8").lower() not in ("utf-8", "us-ascii"):
            raise Unreadable("the file is not UTF-8")

    def _document_type(self, *_about: object) -> None:
        raise Unreadable(f"{self._place()}: a document type, which could make the file grow without end")

    def _aside(self, *_about: object) -> None:
        if self._open and self._open[-1][0] in _VALUES:
            raise Unreadable(f"{self._place()}: more than text in a value, of which parsers read only a part")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if len(self._open) >= _MAX_DEPTH:
            raise Unreadable(f"{self._place()}: elements inside one another, {_MAX_DEPTH} deep")
        self._aside()
        if self._open:
            parent, children = self._open[-1]
            if local in _ONCE and local in children and "Name" not in attributes:
                raise Unreadable(f"{self._place()}: {local} is there twice")
            children.add(local)
            if local == "Key" and parent == "KeyPackage":
                self.seen.lines.append(self.parser.CurrentLineNumber)
        self.seen.encrypted |= local == "EncryptedValue"
        if local in ("Secret", "EncryptionMethod"):
            self._wrapped = "#kw-" in attributes.get("Algorithm", "")
        self._open.append((local, set()))
        self._words.clear()

    def _text(self, text: str) -> None:
        self._words.append(text)

    def _end(self, _name: str) -> None:
        local, children = self._open.pop()
        parent = self._open[-1][0] if self._open else ""
        text = "".join("".join(self._words).split())
        self._words.clear()
        if local in _BASE64 or (local == "PlainValue" and parent == "Secret"):
            self._expect(_is_base64(text), f"{local} is not Base64")
        elif local == "PlainValue":
            self._expect(bool(_INTEGER.match(text)), "PlainValue is not a whole number")
        elif local == "Secret" and "EncryptedValue" in children:
            # Without a MAC a wrong passphrase sometimes yields a key, but a wrong one.
            self._expect(
                "ValueMAC" in children or self._wrapped, "an encrypted key without ValueMAC (RFC 6030, section 6.1.1)"
            )

    def _expect(self, held: bool, otherwise: str) -> None:
        if not held:
            raise Unreadable(f"{self._place()}: {otherwise}")


def _is_base64(text: str) -> bool:
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode() == text != ""
    except (ValueError, binascii.Error):
        return False


def survey(data: bytes) -> Survey:
    """Read an XML file and check it.

    Raises:
        Unreadable: it is not XML, or has what a key container must not have. The text names the line.
    """
    surveyor = _Surveyor()
    try:
        surveyor.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Unreadable(f"line {error.lineno}: not XML: {expat.ErrorString(error.code)}") from None
    return surveyor.seen
