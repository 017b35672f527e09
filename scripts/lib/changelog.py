"""Print debian/changelog as Markdown: scripts/lib/changelog.py >.github/CHANGELOG.md."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "debian" / "changelog"
_WIDTH = 120
_HEAD = re.compile(r"\S+ \((?P<version>[^)]+)\) .*")
_END = re.compile(r" -- .*>  \w+, (?P<day>\d+ \w+ \d+) .*")


def as_markdown(text: str) -> str:
    """Return the entries of a Debian changelog as Markdown, the newest first."""
    lines = ["# Changes", "", "Made from `debian/changelog` by `scripts/lib/changelog.py`."]
    for entry in re.split(r"\n(?=\S)", text.strip()):
        head, *body, end = entry.splitlines()
        version, day = _HEAD.fullmatch(head), _END.fullmatch(end)
        if version is None or day is None:
            raise ValueError(f"not an entry of a Debian changelog: {head}")
        lines += ["", f"## {version['version']} ({day['day']})", ""]
        for item in re.split(r"^  \* ", "\n".join(body), flags=re.MULTILINE)[1:]:
            lines += textwrap.wrap(
                f"- {' '.join(item.split())}",
                _WIDTH,
                subsequent_indent="  ",
                break_on_hyphens=False,
                break_long_words=False,
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(SOURCE.read_text(encoding="utf-8")), end="")
