"""A file system that never answers, like a network disk whose server is gone. Every process that touches it hangs.

It is a FUSE mount in its own mount namespace. Only commands that are run inside see it. Hanging processes are released
at the end.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

# A process that waits for an unread request can be killed. One whose request was read cannot. Writing to `abort`
# releases all of them. So does the end of this process, which has the only descriptor of the connection.
_SERVER = """
import ctypes, os, struct, subprocess, sys, threading
path, reads, owner = sys.argv[1], sys.argv[2] == "reads", int(sys.argv[3])
device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
options = f"fd={device},rootmode=40000,user_id={owner},group_id={owner}" + ("" if owner else ",allow_other")
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"hanging", path.encode(), b"fuse", 6, options.encode()) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
subprocess.run(["mount", "-t", "fusectl", "fusectl", "/sys/fs/fuse/connections"], check=True)
[number] = [line.split()[2].split(":")[1] for line in open("/proc/self/mountinfo") if f" {path} " in line]
def read():
    request = os.read(device, 1 << 17)
    unique = struct.unpack_from("<IIQ", request)[2]
    answer = struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 16, 0, 0, 0, 4096, 1, 0, 0, 0)  # to FUSE_INIT
    os.write(device, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)
    try:
        while os.read(device, 1 << 17):
            pass
    except OSError:
        pass  # aborted
if reads:
    threading.Thread(target=read, daemon=True).start()
print("mounted", flush=True)
sys.stdin.read()
with open(f"/sys/fs/fuse/connections/{number}/abort", "w") as abort:
    abort.write("1")
"""

_UNSHARE = ("unshare", "--mount", "--propagation", "private")


class HangingDisk:
    """A directory that hangs, for processes inside, during the `with` block.

    Args:
        path: of the directory.
        unkillable: not even SIGKILL ends the hanging processes.
        owner: uid of a user that has mounted it for themselves, as with fusermount. Then nobody else may touch it, not
            even root. 0: a mount of root's, which hangs everybody.
    """

    def __init__(self, path: Path, *, unkillable: bool, owner: int = 0) -> None:
        self._server = subprocess.Popen(
            [
                *(*_UNSHARE, "/usr/bin/python3", "-I", "-c", _SERVER),
                *(path, "reads" if unkillable else "does not read", str(owner)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @staticmethod
    def possible() -> bool:
        """Return whether this process may mount such a file system."""
        mounting = [*_UNSHARE, "mount", "-t", "fusectl", "fusectl", "/mnt"]
        mounted = subprocess.run(mounting, check=False, capture_output=True).returncode == 0
        return mounted and Path("/dev/fuse").exists()

    @property
    def inside(self) -> list[str]:
        """Return the start of a command line that runs a command where the directory hangs."""
        return ["nsenter", f"--mount=/proc/{self._server.pid}/ns/mnt", "--"]

    def __enter__(self) -> HangingDisk:
        assert self._server.stdout is not None
        if self._server.stdout.readline() != b"mounted\n":
            raise AssertionError("the hanging file system could not be mounted")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._server.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.communicate()
            raise
