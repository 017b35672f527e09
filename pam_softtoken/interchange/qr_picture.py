"""Read QR codes in pictures, such as a screenshot or a photograph of what an app or a web page shows. Pillow reads the
picture, and ZXing the codes. The libraries are loaded only here. They get no picture format, and no number of pixels,
that a screenshot does not have.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING

from pam_softtoken import platform_facts
from pam_softtoken.program_errors import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
MAX_PIXELS = 24 * 2**20
"""More than any screen has. Decoded they take 24 MiB, and up to four times that in between."""
MAX_CODES = 64
_HINT = "cut the QR code out of the picture, with a white border, and try again"
# Exceptions that Pillow passes on from its decoders. They only mean that the file is damaged.
_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read(data: bytes) -> list[str]:
    """Read the QR codes in a PNG or JPEG picture.

    Returns:
        Their texts, at least one.

    Raises:
        Unreadable: there is none, the picture is damaged or too large, or a library is missing.
    """
    try:
        import PIL.Image  # noqa: PLC0415 - a host without them can import everything else
        import zxingcpp  # noqa: PLC0415
    except ImportError:
        raise Unreadable(
            "reading pictures needs Pillow and ZXing", hint=platform_facts.install("pillow", "zxing-cpp")
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings would go to the terminal
        try:
            with PIL.Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
                grey = _grey(picture)
        except (*_DAMAGE, PIL.Image.DecompressionBombError):
            raise Unreadable("the picture is damaged, or neither PNG nor JPEG", hint=_HINT) from None
        codes = zxingcpp.read_barcodes(
            grey,
            formats=zxingcpp.BarcodeFormat.QRCode,  # type: ignore[arg-type,unused-ignore]
        )
    texts = [code.text for code in codes if code.valid]
    if not texts:
        raise Unreadable("there is no QR code in the picture", hint=_HINT)
    if len(texts) > MAX_CODES:
        raise Unreadable(f"there are more than {MAX_CODES} QR codes in the picture", hint=_HINT)
    return texts


def _grey(picture: Image) -> Image:
    """Read the pixels of a picture; only its size has been read so far. Transparent pixels become white."""
    import PIL.Image  # noqa: PLC0415

    if picture.width * picture.height > MAX_PIXELS:
        raise Unreadable(f"the picture has more than {MAX_PIXELS} pixels", hint=_HINT)
    if "transparency" not in picture.info and "A" not in picture.getbands():
        return picture.convert("L")
    coloured = picture.convert("LA")
    white = PIL.Image.new("L", coloured.size, 255)
    white.paste(coloured.getchannel("L"), mask=coloured.getchannel("A"))
    return white
