"""Write the files that a user takes away from an enrolment: the QR code as a picture, and a page to print.

The files are made empty, before anything is shown. Otherwise a user could scan a key and only then learn that there
is no room or no right to write. The files are removed unless the enrolment succeeds.
"""

from __future__ import annotations

import errno
import html
import io
import os
import time
from types import TracebackType

from pam_softtoken import drawing
from pam_softtoken.account import safe_open
from pam_softtoken.account.replace import NewFile
from pam_softtoken.account.user_path import HINT_FOR_NEW, NamedFiles, reason
from pam_softtoken.errors import InsecureFile, PathError
from pam_softtoken.login import enrolment_dialogue
from pam_softtoken.otp.token import DEFAULT_NAME, HOTPToken, Token, TOTPToken, encode_base32
from pam_softtoken.program_errors import EnrolmentFailed, UsageError
from pam_softtoken.ui import qr_code, terminal

_PIXELS = 8  # of a module: readable on any screen, and fits unscaled on paper of a hand's width

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Soft token for {title}</title>
<style>
@page {{ margin: 15mm }}
:root {{ color-scheme: only light }}
body {{ margin: 0 auto; max-width: 180mm; color: #000; background: #fff; font: 10pt/1.4 sans-serif }}
h1, h2, p, dl, dd, ol {{ margin: 0 }}
h1 {{ font-size: 15pt; line-height: 1.25 }}
h2 {{ margin-top: 4mm; font-size: 12pt }}
h1, p, dd, li {{ overflow-wrap: anywhere }}
.token {{ display: flex; align-items: center; gap: 6mm; margin-top: 3mm }}
.qr {{ flex: none; width: 64mm; height: 64mm }}
.qr svg {{ display: block; width: 100%; height: 100%; shape-rendering: crispEdges }}
dl div {{ display: flex; gap: 3mm }}
dt {{ flex: none; width: 24mm; font-weight: bold }}
.key {{ margin-top: 1mm; font: 11pt/1.4 monospace }}
.steps {{ padding-left: 6mm }}
.codes {{ margin-top: 1mm; padding: 0; list-style: none }}
.codes {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(42mm, 1fr)) }}
code {{ white-space: nowrap }}
.codes li {{ font: 11pt/1.6 monospace }}
.box {{ display: inline-block; width: 3mm; height: 3mm; margin-right: 2.5mm; border: 0.3mm solid #000 }}
@media screen {{ body {{ padding: 8mm }} }}
@media print {{ section, .token, li {{ break-inside: avoid }} }}
</style>
</head>
<body>
<main>
<h1>Soft token for {account} on {host}</h1>
<div class="token">
<div class="qr" role="img" aria-label="QR code with the key, for an app to scan">{qr}</div>
<dl>
{facts}
</dl>
</div>
<section>
<h2>Key</h2>
<p class="key">{key}</p>
</section>
<section>
<h2>Set up the app</h2>
<ol class="steps">
<li>In an app that shows one-time codes, add an entry by scanning the QR code.</li>
<li>An app that cannot scan takes the key, typed without the spaces, and the settings beside the QR code.</li>
<li>When the host asks for a code, type the one that the app shows. Each code works once.</li>
</ol>
</section>
<section>
<h2>Recovery codes</h2>
{recovery}
</section>
<section>
<h2>Keep this page to yourself</h2>
<p>Anyone who has it can make the codes of this token. Keep it on paper, away from the host and from the app, and
delete the file from which it was printed. If the token is lost, run <code>softtoken-enroll --force</code>{named}, or
ask an administrator for a new one: then nothing on this page works any more.</p>
</section>
</main>
</body>
</html>
"""
_WITH_CODES = """\
<p>For when the token is lost. Each works once, in place of a code; tick it off then.</p>
<ol class="codes">
{items}
</ol>"""
_WITHOUT_CODES = "<p>There are none. If the token is lost, only an administrator can help.</p>"

_WITH_OLD_CODES = (
    "<p>They are not on this page: the account keeps those that it had, or they were handed out before.</p>"
)


def png(token: Token, account: safe_open.Account) -> bytes:
    """Return the Key URI's QR code as a PNG picture.

    Raises:
        EnrolmentFailed: the library for QR codes is missing.
    """
    return _draw(token, account, kind="png", scale=_PIXELS)


def svg(token: Token, account: safe_open.Account) -> bytes:
    """Return the Key URI's QR code as an SVG picture: black on white on any background.

    Raises:
        EnrolmentFailed: the library for QR codes is missing.
    """
    return _draw(token, account, kind="svg", scale=_PIXELS, light="white")


def sheet(token: Token, account: safe_open.Account, codes: list[str] | None) -> bytes:
    """Return the page to print as HTML, on one A4 or Letter page. It needs no other file, no network and no script.

    Args:
        codes: the recovery codes, 24 at most. None: they are not known here.

    Raises:
        EnrolmentFailed: the library for QR codes is missing.
    """
    qr = _draw(token, account, kind="svg", light="white", xmldecl=False, svgns=False, nl=False, omitsize=True)
    host = os.uname().nodename
    items = "\n".join(f'<li><span class="box"></span>{html.escape(code)}</li>' for code in codes or ())
    page = _PAGE.format(
        title=f"{_escaped(account.name)} on {_escaped(host)}",
        account=_isolated(account.name),
        host=_isolated(host),
        qr=qr.decode(),
        facts="\n".join(f"<div><dt>{name}</dt><dd>{_isolated(value)}</dd></div>" for name, value in _facts(token)),
        key=drawing.grouped(encode_base32(token.secret.reveal())),
        named="" if token.name == DEFAULT_NAME else " with its <code>--name</code>",
        recovery=_WITH_CODES.format(items=items) if codes else _WITHOUT_CODES if codes == [] else _WITH_OLD_CODES,
    )
    return page.encode()


def _draw(token: Token, account: safe_open.Account, **form: object) -> bytes:
    segno = qr_code.load_segno(otherwise="leave out --png, --svg and --sheet")
    drawn = io.BytesIO()
    # Paper gets creased. This level is still readable with 15 % of the code lost (ISO/IEC 18004).
    code = segno.make(enrolment_dialogue.uri_of(token, account), error="m", micro=False)
    code.save(drawn, border=drawing.QUIET_MODULES, **form)
    return drawn.getvalue()


def _facts(token: Token) -> list[tuple[str, str]]:
    """List what an app needs besides the key, and what distinguishes this token from others."""
    facts = [("Token", token.name), ("Made on", time.strftime("%Y-%m-%d", time.gmtime(token.created)))]
    if isinstance(token, TOTPToken):
        facts += [("Type", "TOTP, by the clock"), ("Period", f"{token.period_s} seconds")]
    elif isinstance(token, HOTPToken):
        facts += [("Type", "HOTP, counting"), ("First counter", str(token.counter))]
    return [*facts, ("Algorithm", token.algorithm), ("Digits", str(token.digits))]


def _escaped(text: str) -> str:
    """Return a name as plain text of the page. Nothing in it can act as markup."""
    return html.escape(terminal.visible(text))


def _isolated(name: str) -> str:
    """Return a name isolated, so that right-to-left writing does not reorder the text beside it."""
    return f"<bdi>{_escaped(name)}</bdi>"


class Printout:
    """The files that were asked for. Use it in a `with` block. An exception that leaves the block removes the files.

    A process that is killed cannot do that. It leaves empty files, or the picture or page of a token that was never
    enrolled. Nobody can use those. The page is on the disk before the token file is replaced, so every enrolment has
    the page that was asked for.

    Args:
        png, svg, sheet: names of new files. None: not wanted.
        named_files: creates them.
    """

    def __init__(self, *, png: str | None, svg: str | None, sheet: str | None, named_files: NamedFiles) -> None:
        self._named_files = named_files
        self._wanted = {"--png": png, "--svg": svg, "--sheet": sheet}
        self._made: dict[str, NewFile] = {}

    def __enter__(self) -> Printout:
        """Create the files, empty.

        Raises:
            EnrolmentFailed: one of them exists already, or cannot be made. None of them is left then.
            UsageError: one of them has no name.
        """
        try:
            for option, path in self._wanted.items():
                if path is not None:
                    self._made[option] = _make(option, path, self._named_files)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._made.values():
            if error is not None:
                file.discard()
            file.close()

    def fill_pictures(self, token: Token, account: safe_open.Account) -> None:
        """Write the pictures as soon as there is a key: the user may want to scan one of them.

        Raises:
            EnrolmentFailed: they cannot be written.
        """
        for option, draw in (("--png", png), ("--svg", svg)):
            if option in self._made:
                _fill(self._made[option], draw(token, account))

    def fill_sheet(self, token: Token, account: safe_open.Account, codes: list[str] | None) -> None:
        """Write the page. `codes` is the same as for `sheet`.

        Raises:
            EnrolmentFailed: it cannot be written.
        """
        if "--sheet" in self._made:
            _fill(self._made["--sheet"], sheet(token, account, codes))

    def announce(self, page: terminal.Terminal) -> None:
        """Show where the pictures are, before a code is asked for."""
        for option in ("--png", "--svg"):
            if option in self._made:
                page.tell(f"The QR code is in {self._name(option)}, too.")

    def advice(self) -> list[str]:
        """Return what to do with the files after the enrolment, one line for each."""
        uses = {option: "print it" if option == "--sheet" else "scan it" for option in self._made}
        return [f"The key is in {self._name(option)}: {use}, then delete it." for option, use in uses.items()]

    def _name(self, option: str) -> str:
        return f'"{terminal.visible(self._made[option].path)}"'


def _make(option: str, path: str, named_files: NamedFiles) -> NewFile:
    if path in ("", "-"):
        raise UsageError(f'{option} takes the name of a file, not "{path}"', hint=f"as in {option} ./token")
    try:
        return named_files.make(path)
    except PathError as error:
        raise _cannot_write(path, error) from None


def _fill(file: NewFile, content: bytes) -> None:
    try:
        file.fill(content)
    except PathError as error:
        raise _cannot_write(file.path, error) from None


def _cannot_write(path: str, error: PathError) -> EnrolmentFailed:
    if error.why == os.strerror(errno.EEXIST):
        return EnrolmentFailed(
            f'"{path}" is there already; nothing was changed', hint="name a new file; none is ever overwritten"
        )
    hint = "name a new file in a directory that you can write"
    if error.why in (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)):
        hint = "make room on the disk and start again"
    elif isinstance(error, InsecureFile):
        hint = HINT_FOR_NEW
    return EnrolmentFailed(f'cannot write "{path}": {reason(error, path)}; nothing was changed', hint=hint)
