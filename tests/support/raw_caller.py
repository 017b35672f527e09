"""A program without root that speaks to root's service itself, and claims what it likes in its first frame.

raw_caller.py CLAIMS ANSWER...    CLAIMS: JSON; prints what it was asked, and the verdict
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

NAMES = (
    "flags",
    "user",
    "name",
    "uid",
    "gid",
    "home",
    "caller_uid",
    "cpu",
    "session",
    "service",
    "rhost",
    "tty",
    "ruser",
)


def first_frame(claims: dict[str, Any]) -> bytes:
    """Return the first frame, with what an honest bridge would say where nothing is claimed."""
    honest = {"flags": "0", "uid": str(os.getuid()), "gid": str(os.getgid()), "home": "/", "cpu": "0"}
    honest |= {"caller_uid": str(os.getuid()), "session": str(os.getsid(0)), "service": "=locker"}
    fields = [str(claims.get(name, honest.get(name, ""))) for name in NAMES] + claims.get("arguments", [])
    kind = str(claims.get("kind", "S"))
    return b"\1" + kind.encode() + b"".join(field.encode() + b"\0" for field in fields)


def main() -> None:
    """Run one attempt."""
    claims, answers = json.loads(sys.argv[1]), sys.argv[2:]
    service = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    service.connect("/run/softtoken/login.sock")
    service.send(first_frame(claims))
    frames: list[str] = []
    while frame := service.recv(65536):
        frames.append(frame[1:2].decode())
        if len(frames) == claims.get("gone_after"):
            break
        if frame[1:2] == b"R":
            print(json.dumps({"frames": "".join(frames), "result": frame[2]}))
            return
        if frame[1:2] == b"C":
            asks = frame[2] in (1, 2)
            service.send(b"\1A=" + (answers.pop(0).encode() if asks and answers else b""))
        else:
            service.send(b"\1A-")
    print(json.dumps({"frames": "".join(frames), "result": None}))


if __name__ == "__main__":
    main()
