"""Descriptors that lead nowhere, also where /dev/null is missing or is no device, as in a chroot or a damaged host."""

from __future__ import annotations

import os


def lead_nowhere(*descriptors: int) -> None:
    """Make descriptors of this process lead nowhere: what is written there is lost, and there is nothing to read."""
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
