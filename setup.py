"""What `pyproject.toml` cannot say: the readme without links into the repository, and the manual page of `softtoken`.

Everything else about the Python package is in `pyproject.toml`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from setuptools import setup  # isort: skip - it also brings distutils, which left Python in 3.12

from distutils.command.install_data import install_data  # isort: skip

TREE = Path(__file__).resolve().parent
PAGES = "share/man/man1"


class InstallDocuments(install_data):  # type: ignore[misc]
    """Writes the manual page, which is made from the code."""

    outfiles: list[str]
    install_dir: str

    def run(self) -> None:
        """Write it below the directory that the wheel is made from."""
        super().run()
        sys.path[:0] = [str(TREE), str(TREE / "scripts" / "lib")]
        import manual  # noqa: PLC0415 - from the line above

        path = Path(self.install_dir, PAGES, "softtoken.1")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(manual.pages()["man/man1/softtoken.1"], encoding="utf-8")
        self.outfiles.append(str(path))


def readme(text: str) -> str:
    """Return README without its picture and links: the page of the package has none of the files that they name."""
    text = re.sub(r"(?s)!\[[^\]]*\]\([^)]*\)\n\n.*? made this picture from a real login\. ", "", text)
    return re.sub(r"\[([^\]]*)\]\(((?![a-z]+:|#)[^)]*)\)", _without_link, text)


def _without_link(match: re.Match[str]) -> str:
    text, target = match.groups()
    return f"`{target}`" if text == target else f"{text} (`{target}`)"


if __name__ == "__main__":
    settings: dict[str, Any] = {
        "long_description": readme((TREE / "README.md").read_text(encoding="utf-8")),
        "long_description_content_type": "text/markdown",
        "data_files": [(PAGES, [])],
        "cmdclass": {"install_data": InstallDocuments},
    }
    setup(**settings)
