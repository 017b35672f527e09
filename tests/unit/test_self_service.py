"""A process that sudo starts for a user undoes what its caller has set."""

from __future__ import annotations

import subprocess
import sys

import pytest

SETTLE_IN = """
import resource, sys
from pam_softtoken.enroll import through_sudo as self_service
limit = getattr(resource, "RLIMIT_" + sys.argv[1])
resource.setrlimit(limit, (1 << 30, resource.getrlimit(limit)[1]))
self_service.settle_in()
soft, hard = resource.getrlimit(limit)
sys.exit(soft != hard)
"""


@pytest.mark.parametrize("limit", ["AS", "CPU", "DATA", "FSIZE", "RTTIME", "STACK"])
def test_settle_in__raises_each_limit_that_keeps_a_program_from_its_work(limit: str) -> None:
    subprocess.run([sys.executable, "-c", SETTLE_IN, limit], check=True, timeout=60)
