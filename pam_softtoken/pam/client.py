"""Ask through PAM as login does, with services from a directory of our own. Must not be loaded by a login."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

from pam_softtoken import log, platform_facts
from pam_softtoken.pam import installed_libpam, known_modules
from pam_softtoken.program_errors import CheckFailed

PAM_SUCCESS, PAM_CONV_ERR = 0, 19
_ROOT = Path(__file__).resolve().parents[2]

Answer = Callable[[str, bool], "str | None"]
"""Returns the answer to a question. The second argument says whether typed text may be shown. None ends the
conversation.
"""


def authenticate(service: str, user: str, answer: Answer, *, directory: str, is_trial: bool = False) -> int:
    """Ask PAM to authenticate a user.

    Args:
        service: a file in the directory. libpam up to 1.5.2 looks for included files on the host.
        user: the user's name.
        answer: returns the answers.
        directory: the directory of the services.
        is_trial: no person guesses here, so `softtoken-admin log` need not show it. Only for programs that root runs.

    Returns:
        The PAM return code.

    Raises:
        CheckFailed: the library pamela is not installed.
        BaseException: any exception of `answer`.
    """
    try:
        import pamela  # noqa: PLC0415 - few programs need it
    except ImportError:
        raise CheckFailed("the check needs the pamela library", hint=platform_facts.install("pamela")) from None
    raised: list[BaseException] = []

    @pamela.CONV_FUNC  # type: ignore[untyped-decorator]
    def converse(count: int, messages: object, responses: object, data: object) -> int:
        address = pamela.CALLOC(count, ctypes.sizeof(pamela.PamResponse))
        responses[0] = ctypes.cast(address, ctypes.POINTER(pamela.PamResponse))  # type: ignore[index]
        for number in range(count):
            style = messages[number].contents.msg_style  # type: ignore[index]
            if style not in (pamela.PAM_PROMPT_ECHO_OFF, pamela.PAM_PROMPT_ECHO_ON):
                continue
            text = ctypes.cast(messages[number].contents.msg, ctypes.c_char_p).value  # type: ignore[index]
            question = (text or b"").decode("utf-8", "replace")
            try:
                typed = answer(question, style == pamela.PAM_PROMPT_ECHO_ON)
            except BaseException as error:  # no exception may pass through libpam
                raised.append(error)
                typed = None
            if typed is None:
                return PAM_CONV_ERR
            responses.contents[number].resp = pamela.STRDUP(typed.encode("utf-8", "surrogateescape"))  # type: ignore[attr-defined]
        return PAM_SUCCESS

    handle = pamela.PamHandle()
    conversation = ctypes.pointer(pamela.PamConv(converse, 0))
    started = pamela.LIBPAM.pam_start_confdir(
        service.encode(), user.encode(), conversation, directory.encode(), ctypes.byref(handle)
    )
    if started != PAM_SUCCESS:
        return int(started)
    if is_trial:
        pamela.LIBPAM.pam_putenv(handle, f"{log.TRIAL_VARIABLE}={log.TRIAL}".encode())
    result = int(pamela.PAM_AUTHENTICATE(handle, 0))
    pamela.PAM_END(handle, result)
    if raised:
        raise raised[0]
    return result


def our_module() -> str:
    """Return the module of this package as a PAM line names it: the source tree's own, or the host's."""
    built = _ROOT / "build" / known_modules.OURS
    if built.exists():
        return f"[{built}] [backend={_ROOT / 'scripts' / 'softtoken-backend'}]"
    where = platform_facts.MODULES
    searched = {os.path.realpath(path) for path in installed_libpam.module_directories()}
    return known_modules.OURS if not where or os.path.realpath(where) in searched else f"[{where}/{known_modules.OURS}]"
