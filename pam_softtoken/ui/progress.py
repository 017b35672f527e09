"""Show on a terminal how far long work has come. Nothing is shown where stderr goes elsewhere, or where the library
`rich` is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Progress = AbstractContextManager[Callable[..., None]]


@contextmanager
def shown(total: int, what: str = "") -> Iterator[Callable[..., None]]:
    """Return a `with` block with a function to call after each step. It can be called with the name of the next step.

    Args:
        total: the number of steps.
        what: what the first step is about.
    """
    # A single step is not long work. It may ask questions, which a bar would write over.
    if total < 2 or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _name="": None
        return
    try:
        from rich.console import Console  # noqa: PLC0415 - the import takes longer than most work
        from rich.progress import Progress as Bar  # noqa: PLC0415
    except ImportError:
        yield lambda _name="": None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _name="": None
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda name="": bar.update(task, advance=1, description=name or what)
