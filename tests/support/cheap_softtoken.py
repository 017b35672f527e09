"""Start `softtoken` with vaults that cost little to open and to write. Everything else is as users have it."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the program does first

import runpy  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from pam_softtoken.device import sealing  # noqa: E402

sealing.COST = sealing.Cost(10, 1, 1)
from pam_softtoken.device import vault  # noqa: E402, F401 - it takes the cost

sys.argv[0] = str(TREE / "scripts" / "softtoken")
runpy.run_path(sys.argv[0], run_name="__main__")
