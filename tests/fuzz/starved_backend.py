"""Run the backend while one allocation after the other fails, each time in a fresh copy of this process.

`/usr/bin/python3 -I -S starved_backend.py PARENT USER UID GID HOME ANSWERS STEP ARGUMENT...` plays the bridge. It
prints
a line for each attempt: the number of the failed allocation, the verdict's PAM code or `none`, the PAM code when the
same was typed again with enough memory, and the last log line. It ends after the last allocation. With a STEP above 1
it
tries only every STEP-th allocation. ANSWERS, separated by commas, are used in turn.

Allocations are those of CPython's three allocators, by `_testcapi.set_nomemory`. Those of libc and OpenSSL are not
included.
"""

import _testcapi  # type: ignore[import-not-found]  # of Debian's libpython3-stdlib
import gc
import os
import signal
import socket
import sys

VERSION = 1
CODE_BYTE = 2
PATIENCE_S = 20
NEVER = 2**30
MANY = 200
NO_BACKEND_HAS_AS_MANY = 200_000
JUDGED = "reason=mismatch"


def attempt(start: bytes, answer: bytes, failing: int, *, in_a_row: int = 1) -> tuple[str, str]:
    """Judge one answer in the backend, and return its verdict and its last log line."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        try:
            os.dup2(theirs.fileno(), 0)
            os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
            os.closerange(3, 64)
            signal.alarm(PATIENCE_S)
            _testcapi.set_nomemory(failing, failing + in_a_row)
            backend.main("/backend")
        finally:
            os._exit(1)
    theirs.close()
    verdict, line = "none", ""
    try:
        ours.send(start)
        while frame := ours.recv(8192):
            if frame[1:2] == b"C":
                ours.send(bytes((VERSION,)) + b"A=" + answer)
            elif frame[1:2] == b"R":
                verdict = str(frame[CODE_BYTE])
                line = frame[4:].decode("ascii", "replace") or line
            else:
                line = frame[3:].decode("ascii", "replace")
    except OSError:
        pass  # it ended in the middle
    ours.close()
    os.waitpid(child, 0)
    return verdict, line


def main() -> None:
    """Try all allocations."""
    _, _, user, uid, gid, home, answers, step, *arguments = sys.argv
    fields = ["0", user, user, uid, gid, home, "0", "0", "0", "=starved", "", "", "", *arguments]
    start = bytes((VERSION,)) + b"S" + "".join(field + "\0" for field in fields).encode()
    unused = answers.split(",")
    failing = 1
    while failing < NO_BACKEND_HAS_AS_MANY:
        answer = unused[0].encode()
        verdict, line = attempt(start, answer, failing)
        again = attempt(start, answer, NEVER)[0]
        print(failing, verdict, again, line, flush=True)
        # So many failures in a row have no effect only if there is nothing left to fail. (With endless failures,
        # CPython itself may loop.)
        if failing % 256 < int(step) and JUDGED in attempt(start, b"000000", failing, in_a_row=MANY)[1]:
            break
        failing += int(step)
        unused = unused[1:] or unused


if __name__ == "__main__":
    gc.disable()
    sys.path.insert(0, sys.argv[1])
    from pam_softtoken.bridge import backend

    main()
