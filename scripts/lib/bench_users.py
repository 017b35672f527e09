"""Add users for `scripts/bench`. They exist only in the bench's own copy of /etc."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from bench_setup import Workshop

ETC = Path("/etc")
NO_PASSWORD = "*"


def add_user(shop: Workshop, name: str, *, hashed: str = NO_PASSWORD) -> pwd.struct_passwd:
    """Add a user with a home directory.

    Args:
        shop: where the home directory is made.
        name: of the user.
        hashed: the hash of the password.
    """
    used = {entry.pw_uid for entry in pwd.getpwall()}
    uid = next(uid for uid in range(59999, 1000, -1) if uid not in used)
    home = shop.path / f"home-of-{name}"
    home.mkdir(mode=0o700)
    os.chown(home, uid, uid)
    lines = {
        "passwd": f"{name}:x:{uid}:{uid}::{home}:/bin/sh\n",
        "group": f"{name}:x:{uid}:\n",
        "shadow": f"{name}:{hashed}:19000:0:99999:7:::\n",
    }
    for file_name, line in lines.items():
        with (ETC / file_name).open("a") as file:
            file.write(line)
    return pwd.getpwnam(name)
