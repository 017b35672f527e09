"""A program of an ordinary user that sends files of its own FUSE file system to a socket. The last copy of such a file
is closed when that file system has answered, and it never does. Source: fuse(4) and the kernel's <linux/fuse.h>.

hanging_file.py SOCKET COUNT    prints "sent" when COUNT connections were made and left, and "asked" when the first file
                                waits; "cannot" if this host lets no user mount. Nobody may close the connections before
                                "sent": a file waits only if something was written to it
"""

from __future__ import annotations

import array
import ctypes
import os
import signal
import socket
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, WRITE, FLUSH, INIT, OPENDIR = 1, 2, 3, 14, 16, 25, 26, 27
WRITEBACK_CACHE, NOSYS = 1 << 16, 38
NEW_USER_AND_MOUNTS, ROOT, FILE = 0x10020000, 1, 2
PLACE = "/mnt"
LONGEST_S = 300
"""Then the file system ends whatever happens. Nothing else would end those that wait for it."""


def mount() -> int:
    """Mount the file system in namespaces of this process. Return the device at which it is served."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(NEW_USER_AND_MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for file, text in ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"):
        with open(f"/proc/self/{file}", "w", encoding="ascii") as written:
            written.write(text)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={uid},group_id={gid}"
    if libc.mount(b"hanging", PLACE.encode(), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    return device


def serve(device: int, asked: int) -> None:
    """Serve files without content. Writing one takes for ever, and the first time is told to a pipe."""
    attributes = struct.pack("<6Q", 0, 0, 0, 0, 0, 0)
    while True:
        request = os.read(device, 1 << 20)
        _, code, unique, node = struct.unpack_from("<IIQQ", request)
        mode = 0o40777 if node == ROOT and code != LOOKUP else 0o100666
        tail = struct.pack("<10I", 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)
        error, answer = 0, b""
        if code == INIT:
            answer = struct.pack("<4I2H2I2H8I", 7, 31, 0, WRITEBACK_CACHE, 9, 9, 65536, 1, 16, 0, *8 * (0,))
        elif code == LOOKUP:
            name = request[40:].rstrip(b"\0")
            answer = struct.pack("<4Q2I", FILE + int(name), 1, 3600, 3600, 0, 0)
            answer += struct.pack("<Q", FILE + int(name)) + attributes[8:] + tail
        elif code == GETATTR:
            answer = struct.pack("<QII", 3600, 0, 0) + struct.pack("<Q", node) + attributes[8:] + tail
        elif code in (OPEN, OPENDIR):
            answer = bytes(16)
        elif code == WRITE:
            os.write(asked, b"x")
            continue
        elif code == FORGET:
            continue
        elif code != FLUSH:
            error = -NOSYS
        os.write(device, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)


def send(path: str, number: int) -> int:
    """Connect, send a file and leave. Return the file, opened a second time: what is written there waits, too."""
    file = os.open(f"{PLACE}/{number}", os.O_RDWR)
    again = os.open(f"{PLACE}/{number}", os.O_RDWR)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(path)
        connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
    os.close(file)  # nothing is written yet, so this does not wait
    os.write(again, b"x")
    return again


def main() -> None:
    """Send, and end when standard input does."""
    try:
        device = mount()
    except OSError as error:
        print("cannot mount:", error)
        return
    waited_for, asked = os.pipe()
    server = os.fork()
    if server == 0:
        signal.alarm(LONGEST_S)
        serve(device, asked)
    os.close(device)
    try:
        kept = [send(sys.argv[1], number) for number in range(int(sys.argv[2]))]
        print("sent", len(kept), flush=True)
        os.read(waited_for, 1)
        print("asked", flush=True)
        sys.stdin.read()
    finally:
        os.kill(server, signal.SIGKILL)


if __name__ == "__main__":
    main()
