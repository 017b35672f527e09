r"""The statement that is signed: which command runs, as whom, where, with what around it. Host and device share this
module. Does no I/O and reads no clock.

A statement is printable ASCII: one `name value` on each line. Each statement has exactly one text, and each text is of
at most one statement, so a signature over the text is a signature over the command. A value is made of words. A word of
ordinary characters stands as it is. Any other word is in double quotes, with `\xNN` for each byte that is not printable
ASCII. A space behind a space is `\x20`, so no value can push something off the screen or imitate a line.
"""

from __future__ import annotations

from pam_softtoken.program_errors import BadStatement, StatementTooLong

HEAD = "softtoken-request 1"
MAX_BYTES = 1500
NONCE_CHARACTERS, KEY_CHARACTERS = 32, 16
_MAX_TIME = 2**40
_ORDINARY = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,-./:=@_"
_HEX = "0123456789abcdef"
_LETTERS = "abcdefghijklmnopqrstuvwxyz-"
_MAX_KIND_CHARACTERS = 16
_ONE_WORD = ("host", "user", "as", "in", "tty")
_SHOWN = ("env", "host", "user", "as", "in", "tty", "chroot", "run", "argv0", "kind", "note")
"""The order in which people read it. Any number of `env` lines comes first, so that none of them scrolls the others
away.
"""


class Statement:
    """One command that is to be signed.

    Texts are bytes of the host, decoded as UTF-8 with `surrogateescape`.

    Args:
        host: name of the host.
        user: who asks.
        as_user: whom the command runs as, or user and group.
        cwd: working directory of the command.
        tty: terminal of the request; may be empty.
        run: path of the command and its arguments.
        time: Unix seconds of the request.
        nonce: 32 hexadecimal digits that no other request has.
        key: `signing.key_id` of the key.
        chroot: root directory of the command; None if it is not changed.
        env: `NAME=value` for each variable that is not known to be harmless.
        argv0: the name under which the command is run; None if it is the path.
        kind: what is special about the command, in one word of lower-case letters; empty if nothing is.
        notes: warnings of the host, a sentence each.

    Raises:
        ValueError: an argument is out of its range, or is no text of a host.
    """

    __slots__ = (
        "argv0", "as_user", "chroot", "cwd", "env", "host", "key", "kind", "nonce", "notes", "run", "time", "tty",
        "user",
    )  # fmt: skip

    def __init__(
        self,
        *,
        host: str,
        user: str,
        as_user: str,
        cwd: str,
        tty: str,
        run: tuple[str, ...],
        time: int,
        nonce: str,
        key: str,
        chroot: str | None = None,
        env: tuple[str, ...] = (),
        argv0: str | None = None,
        kind: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        if not run:
            raise ValueError("there is no command")
        if not 0 <= time < _MAX_TIME:
            raise ValueError("time is out of range")
        if len(kind) > _MAX_KIND_CHARACTERS or kind.strip(_LETTERS):
            raise ValueError("kind is no lower-case word")
        if len(nonce) != NONCE_CHARACTERS or nonce.strip(_HEX) or len(key) != KEY_CHARACTERS or key.strip(_HEX):
            raise ValueError("nonce or key is not hexadecimal, or of another length")
        if any("=" not in variable for variable in env):
            raise ValueError("a variable has no value")
        self.host, self.user, self.as_user = _text(host), _text(user), _text(as_user)
        self.cwd, self.tty = _text(cwd), _text(tty)
        self.chroot = None if chroot is None else _text(chroot)
        self.env = tuple(_text(variable) for variable in env)
        self.run = tuple(_text(word) for word in run)
        self.argv0 = None if argv0 is None else _text(argv0)
        self.kind = kind
        self.notes = tuple(_text(note) for note in notes)
        if any(not note or note != note.strip(" ") for note in self.notes):
            raise ValueError("a note is empty, or begins or ends with a space")
        self.time, self.nonce, self.key = time, nonce, key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Statement) and self._lines() == other._lines()

    def __hash__(self) -> int:
        return hash(tuple(self._lines()))

    def encode(self) -> bytes:
        """Return the text that is signed: printable ASCII in lines.

        Raises:
            StatementTooLong: it would have more than `MAX_BYTES` bytes.
        """
        text = "".join(f"{line}\n" for line in (HEAD, *(f"{name} {value}" for name, value in self._lines())))
        if len(text) > MAX_BYTES:
            raise StatementTooLong(len(text))
        return text.encode("ascii")

    def _lines(self) -> list[tuple[str, str]]:
        lines = list(zip(_ONE_WORD, map(escape, (self.host, self.user, self.as_user, self.cwd, self.tty)), strict=True))
        if self.chroot is not None:
            lines.append(("chroot", escape(self.chroot)))
        lines += [("env", escape(variable)) for variable in self.env]
        lines.append(("run", " ".join(map(escape, self.run))))
        if self.argv0 is not None:
            lines.append(("argv0", escape(self.argv0)))
        if self.kind:
            lines.append(("kind", self.kind))
        lines += [("note", _visible(note)) for note in self.notes]
        return [*lines, ("time", str(self.time)), ("nonce", self.nonce), ("key", self.key)]

    @classmethod
    def parse(cls, data: bytes) -> Statement:
        """Read a statement in its one spelling.

        Raises:
            BadStatement: it is not what `encode` returns for any statement.
        """
        if len(data) > MAX_BYTES:
            raise BadStatement(f"larger than {MAX_BYTES} bytes")
        try:
            statement = cls._of_lines(data.decode("ascii").split("\n"))
            # Only one spelling of each value, and only one order of the lines, comes out again.
            is_canonical = statement.encode() == data
        except (ValueError, StatementTooLong):
            raise BadStatement("no statement") from None
        if not is_canonical:
            raise BadStatement("not the one spelling of this statement")
        return statement

    @classmethod
    def _of_lines(cls, lines: list[str]) -> Statement:
        if lines[0] != HEAD or lines[-1] != "":
            raise ValueError("another version, or cut off")
        values: dict[str, list[str]] = {}
        for line in lines[1:-1]:
            name, space, value = line.partition(" ")
            if not space:
                raise ValueError("a line has no value")
            values.setdefault(name, []).append(value)
        variables, notes = values.pop("env", []), values.pop("note", [])
        if any(len(each) > 1 for each in values.values()):
            raise ValueError("a line stands twice")
        fields = {name: each[0] for name, each in values.items()}
        host, user, as_user, cwd, tty = (unescape(fields.pop(name, "\\")) for name in _ONE_WORD)
        chroot, argv0 = (unescape(fields.pop(name)) if name in fields else None for name in ("chroot", "argv0"))
        number = fields.pop("time", "")
        if not 1 <= len(number) <= 13 or number.strip("0123456789"):
            raise ValueError("the time is no number")
        statement = cls(
            host=host, user=user, as_user=as_user, cwd=cwd, tty=tty, chroot=chroot, argv0=argv0,
            env=tuple(map(unescape, variables)), run=_words(fields.pop("run", "")), kind=fields.pop("kind", ""),
            notes=tuple(map(_from_visible, notes)), time=int(number), nonce=fields.pop("nonce", ""),
            key=fields.pop("key", ""),
        )  # fmt: skip
        if fields:
            raise ValueError("an unknown line")
        return statement


def shown_lines(statement: Statement) -> list[tuple[str, str]]:
    """Return what people read before they sign: all lines but the time, the nonce and the key, which are numbers.

    Returns:
        Names and values, in printable ASCII.
    """
    lines = statement._lines()
    return [line for name in _SHOWN for line in lines if line[0] == name]


def escape(word: str) -> str:
    r"""Return a word in its one spelling.

    >>> print(escape("/bin/ls"), escape("a b"), escape(""), escape('"\n'))
    /bin/ls "a b" "" "\"\x0a"
    """
    if word and not word.strip(_ORDINARY):
        return word
    return '"' + _visible(word).replace('"', '\\"') + '"'


def unescape(text: str) -> str:
    """Return the word that a spelling stands for. It need not be the one spelling; `Statement.parse` sees to that.

    Raises:
        ValueError: it is no spelling of one word.
    """
    (word,) = _words(text)  # ValueError, too, if there is not one
    return word


def _text(text: str) -> str:
    # Some texts with halves of surrogate pairs are the same bytes as another text.
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError("a text of a host has no NUL")
    return data.decode("utf-8", "surrogateescape")


def _visible(text: str) -> str:
    r"""Return a text in printable ASCII: `\\` for a backslash, `\xNN` for all else, and for a space behind a space."""
    result, before = "", 0
    for byte in text.encode("utf-8", "surrogateescape"):
        if byte == 0x5C:
            result += "\\\\"
        elif 0x20 < byte < 0x7F or (byte == 0x20 and before != 0x20):
            result += chr(byte)
        else:
            result += f"\\x{byte:02x}"
        before = byte
    return result


def _from_visible(text: str) -> str:
    return _read(text, 0, "")[0]


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a value."""
    found, place = [], 0
    while True:
        if text[place : place + 1] == '"':
            word, place = _read(text, place + 1, '"')
            place += 1
        else:
            end = text.find(" ", place)
            end = len(text) if end < 0 else end
            word, place = text[place:end], end
            if not word or word.strip(_ORDINARY):
                raise ValueError("a word must be in quotes")
        found.append(word)
        if place == len(text):
            return tuple(found)
        if text[place] != " ":
            raise ValueError("no space between two words")
        place += 1


def _read(text: str, place: int, end: str) -> tuple[str, int]:
    """Return a text up to an unescaped end character, or to the end of all if that is "", and where it ends."""
    data = bytearray()
    while place < len(text) and (not end or text[place] != end):
        character = text[place]
        if character != "\\":
            data.append(ord(character))
            place += 1
        elif text[place + 1 : place + 2] in ("\\", '"'):
            data.append(ord(text[place + 1]))
            place += 2
        else:
            digits = text[place + 2 : place + 4]
            if text[place + 1 : place + 2] != "x" or len(digits) != 2 or digits.strip(_HEX):
                raise ValueError("an unknown escape")
            data.append(int(digits, 16))
            place += 4
    if end and place == len(text):
        raise ValueError("a quote does not end")
    return data.decode("utf-8", "surrogateescape"), place
