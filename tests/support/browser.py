"""Show a page or picture in a browser and on paper. Chromium shows and prints it, and poppler reads the paper.

Chromium runs without a network, so a test notices anything that would be missing.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

TIMEOUT_S = 60
_DOTS_PER_INCH = "150"  # no printer is coarser


def _browse(page: Path, *options: str) -> None:
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = ["unshare", "--net", "chromium", "--headless", "--no-sandbox", "--disable-gpu"]
        command += [f"--user-data-dir={profile}", *options, page.as_uri()]
        environment = {**os.environ, "HOME": profile}
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
    assert done.returncode == 0, done.stderr


def screenshot(page: Path, target: Path) -> Path:
    """Show a file in a window, and return a picture of it."""
    _browse(page, "--window-size=1000,1000", f"--screenshot={target}")
    return target


class Paper:
    """A printed page.

    Args:
        page: the HTML file.
        pdf: the path of the new print.
    """

    def __init__(self, page: Path, pdf: Path) -> None:
        self._pdf = pdf
        _browse(page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")

    def facts(self) -> dict[str, str]:
        """Return the facts that pdfinfo shows, such as `Pages` and `Page size`."""
        lines = self._run("pdfinfo", self._pdf).splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def text(self) -> str:
        """Return its readable text, with one space for any gap."""
        return " ".join(self._run("pdftotext", "-layout", self._pdf, "-").split())

    def picture(self) -> Path:
        """Return a picture of it, in shades of grey as most printers have them."""
        self._run(
            "pdftoppm", "-gray", "-png", "-singlefile", "-r", _DOTS_PER_INCH, self._pdf, self._pdf.with_suffix("")
        )
        return self._pdf.with_suffix(".png")

    @staticmethod
    def _run(*command: str | Path) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S).stdout
