"""Log in through pamela or python-pam, in a separate process: `python_client.py LIBRARY CONFDIR SERVICE USER ANSWER`.

Both call libpam's `pam_start`, which reads /etc/pam.d. Only this entry is replaced: by the real `pam_start_confdir`
with
a private directory. Prints one JSON object: the PAM return code and, if the library keeps them, the messages.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from ctypes import CDLL, c_char_p, c_int, c_void_p
from typing import Any


def start_from(directory: str) -> Callable[[Any, Any, Any, Any], int]:
    """Return a `pam_start` that reads its services from a directory."""
    start = CDLL("libpam.so.0").pam_start_confdir
    start.argtypes = [c_char_p, c_char_p, c_void_p, c_char_p, c_void_p]
    start.restype = c_int

    def pam_start(service: Any, user: Any, conversation: Any, handle: Any) -> int:
        return int(start(service, user, conversation, os.fsencode(directory), handle))

    return pam_start


def through_pamela(directory: str, service: str, user: str, answer: str) -> tuple[int, list[str]]:
    """Authenticate, check the account and set credentials, as pamela does."""
    import pamela

    pamela.PAM_START = start_from(directory)
    try:
        pamela.authenticate(user, [answer], service=service)
    except pamela.PAMError as error:
        return int(error.errno), []
    return 0, []


def through_python_pam(directory: str, service: str, user: str, answer: str) -> tuple[int, list[str]]:
    """Authenticate, check the account and set credentials, as python-pam does."""
    import pam  # type: ignore[import-untyped]

    authenticator = pam.pam()
    authenticator.pam_start = start_from(directory)
    authenticator.authenticate(user, answer, service=service)
    return authenticator.code, authenticator.messages


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    run = {"pamela": through_pamela, "python-pam": through_python_pam}[sys.argv[1]]
    result, messages = run(*sys.argv[2:6])
    print(json.dumps({"result": result, "messages": messages, "uid": os.getresuid()}))
