"""Start `softtoken` with vaults that cost little to open and to write. Everything else is as users have it."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the program does first
    import runpy
    import sys
    from pathlib import Path

    TREE = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(TREE))
    from pam_softtoken.device import sealing

    sealing.COST = sealing.Cost(10, 1, 1)
    sys.argv[0] = str(TREE / "scripts" / "softtoken")
    runpy.run_path(sys.argv[0], run_name="__main__")
