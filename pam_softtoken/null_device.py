"""Descriptors that lead nowhere. They work even where /dev/null is missing or is no device, as in a chroot or on a
damaged host. Imports nothing of the package.
"""

from __future__ import annotations

import os


def lead_nowhere(*descriptors: int) -> None:
    """Open descriptors of this process anew to lead nowhere. Writes are lost, and there is nothing to read."""
    try:
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        without_writer, nowhere = os.pipe()
        os.close(without_writer)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    if nowhere in descriptors:
        os.set_inheritable(nowhere, True)
    else:
        os.close(nowhere)
