"""Pictures of QR codes, drawn by segno and by qrencode. Neither shares code with the library that reads them."""

from __future__ import annotations

import io
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
import segno

from pam_softtoken.interchange import reader
from pam_softtoken.interchange.record import Imported
from pam_softtoken.program_errors import ImportFailed
from tests.support.tools import needs, needs_debians_python

TREE = Path(__file__).resolve().parents[2]
NOW = 1_700_000_000
KEY = b"12345678901234567890"
KEY_TEXT = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
URI = f"otpauth://totp/host:alice?secret={KEY_TEXT}&issuer=host&digits=8"
BLACK = "--foreground=000000ff"
SHORT = "otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8SGEV4YW1wbGU6YWxpY2VAZ29vZ2xlLmNvbRoHRXhhbXBsZTAC"


def _read(data: bytes) -> tuple[Imported, ...]:
    return reader.read(data, path="shot.png", now=NOW).found


def _qrencode(text: str, *options: str) -> bytes:
    command = ["qrencode", "--output=-", "--type=PNG32", *options, text]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _segno(text: str, **options: str | None) -> bytes:
    drawn = io.BytesIO()
    segno.make(text, error="l", micro=False).save(drawn, kind="png", scale=4, **options)
    return drawn.getvalue()


def _saved(picture: PIL.Image.Image, kind: str) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind)
    return data.getvalue()


def _screenshot(*codes: bytes) -> PIL.Image.Image:
    """Return a screen of 1920 by 1080 grey points with codes side by side."""
    screen = PIL.Image.new("RGB", (1920, 1080), (220, 225, 230))
    for count, code in enumerate(codes):
        screen.paste(PIL.Image.open(io.BytesIO(code)).convert("RGB"), (150 + 600 * count, 300))
    return screen


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda: _segno(URI), id="segno"),
        pytest.param(lambda: _segno(URI, dark="navy", light="#eee"), id="coloured"),
        pytest.param(lambda: _segno(URI, light=None), id="transparent"),
        pytest.param(lambda: _segno(URI, dark="white", light="black"), id="inverted"),
        pytest.param(lambda: _qrencode(URI), id="qrencode", marks=needs("qrencode")),
        pytest.param(
            lambda: _qrencode(URI, BLACK, "--background=ffffff00"), id="transparent-2", marks=needs("qrencode")
        ),
        pytest.param(
            lambda: _qrencode(URI, BLACK, "--background=00000000"), id="transparent-3", marks=needs("qrencode")
        ),
        pytest.param(lambda: _saved(_screenshot(_segno(URI)), "PNG"), id="screen"),
        pytest.param(lambda: _saved(_screenshot(_segno(URI)), "JPEG"), id="jpeg"),
        pytest.param(lambda: _saved(_screenshot(_segno(URI)).rotate(90, expand=True), "JPEG"), id="turned"),
    ],
)
def test_picture__key_uri_is_read(draw: Callable[[], bytes]) -> None:
    (record,) = _read(draw())
    assert record.token.secret.reveal() == KEY
    assert (record.token.name, record.token.digits, record.place) == ("host alice", 8, "QR code 1")


def test_picture__several_codes_are_read() -> None:
    screen = _saved(_screenshot(_segno(URI), _segno(URI.replace("alice", "bob"))), "PNG")
    assert {record.token.name for record in _read(screen)} == {"host alice", "host bob"}


def test_picture__mistake_in_one_code_names_it() -> None:
    with pytest.raises(ImportFailed) as caught:
        _read(_segno(SHORT))
    assert caught.value.problems == ("QR code 1, account 1: the key has 80 bits, and RFC 4226 asks for 128 at least",)
    with pytest.raises(ImportFailed) as caught:
        _read(_segno(f"https://example.com/{KEY_TEXT}"))
    assert caught.value.problems == ("QR code 1: not a Key URI",)


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a PNG that states its size, and may have fewer points."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(chunks) + _chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (_saved(PIL.Image.new("L", (200, 200), 255), "PNG"), "there is no QR code in the picture"),
        (_saved(PIL.Image.new("L", (1, 1)), "PNG"), "there is no QR code in the picture"),
        (_saved(PIL.Image.new("1", (8000, 8000)), "PNG"), "the picture has more than 25165824 pixels"),
        (_png(2**31 - 1, 2**31 - 1), "the picture is damaged"),
        (_png(20_000, 20_000, _chunk(b"IDAT", b"")), "the picture is damaged"),
        (_png(100, 100, _chunk(b"IDAT", zlib.compress(b""))), "the picture is damaged"),
        (_png(100, 100, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27)))), "the picture is damaged"),
        (_segno(URI)[:300], "the picture is damaged"),
        (_segno(URI)[:20], "the picture is damaged"),
        (b"\xff\xd8\xff\xe0", "the picture is damaged"),
        (b"\xff\xd8\xff" + b"otpauth://", "the picture is damaged"),
    ],
)
def test_picture__unreadable_one_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        _read(data)
    assert [told[: len(problem)] for told in caught.value.problems] == [problem]
    assert "cut the QR code out" in caught.value.hint


def test_picture__other_forms_are_refused_by_a_kind_that_is_given() -> None:
    for form in ("GIF", "BMP", "TIFF"):
        data = _saved(PIL.Image.open(io.BytesIO(_segno(URI))).convert("L"), form)
        with pytest.raises(ImportFailed, match="neither PNG nor JPEG"):
            reader.read(data, path="shot", now=NOW, kind="picture")


@needs_debians_python("PIL", "zxingcpp")
def test_picture__is_read_by_debians_libraries() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pam_softtoken.interchange import reader as importer\n"
        "found = importer.read(sys.stdin.buffer.read(), path='-', now=0)\n"
        "print(found.found[0].token.secret.reveal().decode())"
    )
    command = ["/usr/bin/python3", "-I", "-c", script, str(TREE)]
    done = subprocess.run(command, input=_segno(URI), capture_output=True, check=False)
    assert done.stdout.decode().strip() == KEY.decode(), done.stderr
    assert not done.stderr
