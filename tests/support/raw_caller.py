"""A program without root that speaks to root's service itself, and claims what it likes in its first frame.

raw_caller.py CLAIMS ANSWER...    CLAIMS: JSON; prints what it was asked, and the verdict
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import sys
import time
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


def slow_to_close() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a connection. Closing the first one waits an hour for data that nobody reads at the other."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sender = socket.socket()
        sender.connect(listener.getsockname())
        reader, _ = listener.accept()
    sender.setblocking(False)
    try:
        while True:
            sender.send(bytes(65536))
    except BlockingIOError:
        pass
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    return sender, reader


def main() -> None:
    """Run one attempt."""
    claims, answers = json.loads(sys.argv[1]), sys.argv[2:]
    service = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    service.connect("/run/softtoken/login.sock")
    service.send(first_frame(claims))
    frames: list[str] = []
    slow, _reader = slow_to_close() if claims.get("with_descriptors") else (None, None)
    while frame := service.recv(65536):
        frames.append(frame[1:2].decode())
        if len(frames) == claims.get("gone_after"):
            break
        if len(frames) == claims.get("silent_after"):
            print(json.dumps({"frames": "".join(frames)}), flush=True)
            sys.stdin.read()
            return
        if frame[1:2] == b"R":
            print(json.dumps({"frames": "".join(frames), "result": frame[2]}))
            return
        if frame[1:2] == b"C":
            asks = frame[2] in (1, 2)
            answer = b"\1A=" + (answers.pop(0).encode() if asks and answers else b"")
            if slow is not None:
                print("asked", flush=True)
                sys.stdin.readline()
                rights = array.array("i", [slow.fileno()])
                service.sendmsg([answer], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                slow.close()  # waits for nothing: the service is stopped, and another copy is in the frame
                print("answered", flush=True)
                sys.stdin.read()
                return
            service.send(answer)
        else:
            time.sleep(claims.get("password_after_s", 0))
            service.send(b"\1A=" + claims["password"].encode() if "password" in claims else b"\1A-")
    print(json.dumps({"frames": "".join(frames), "result": None}))


if __name__ == "__main__":
    main()
