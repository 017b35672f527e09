"""Draw a terminal session as an SVG picture."""

from __future__ import annotations

from html import escape

_LINE_PX, _CHARACTER_PX, _MARGIN_PX, _BAR_PX = 22, 8.5, 18, 30
_STYLE = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:14px"


def drawn(lines: list[str]) -> str:
    """Return a picture of a terminal.

    Args:
        lines: what it shows. A line with a prompt (`laptop$ ...`) is drawn as typed, a refusal in red.
    """
    columns = max(len(line) for line in lines)
    width, height = round(2 * _MARGIN_PX + columns * _CHARACTER_PX), _BAR_PX + _MARGIN_PX + len(lines) * _LINE_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        "<title>A login asks for a code, takes it once, and refuses it the second time</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#1e1e2e"/>',
        *(
            f'<circle cx="{place}" cy="16" r="6" fill="{colour}"/>'
            for place, colour in zip((20, 40, 60), _LIGHTS, strict=True)
        ),
        f'<g style="{_STYLE}" xml:space="preserve">',
    ]
    for number, line in enumerate(lines):
        place = f'x="{_MARGIN_PX}" y="{_BAR_PX + 20 + number * _LINE_PX}" fill="{_colour(line)}"'
        parts.append(f"<text {place}>{escape(line)}</text>")
    return "\n".join([*parts, "</g>", "</svg>", ""])


_LIGHTS = ("#f38ba8", "#f9e2af", "#a6e3a1")


def _colour(line: str) -> str:
    if line.startswith("laptop$"):
        return "#89b4fa"
    return "#f38ba8" if "denied" in line else "#cdd6f4"
