"""Talk to the person through the PAM application, and read what the application knows. `pamh` is as in `pam_module`."""

from __future__ import annotations

import os

from pam_softtoken import errors, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_softtoken.account import safe_open


def ask(pamh: Any, question: str, *, shown: bool) -> str:
    """Ask the person a question.

    Args:
        pamh: the PAM handle.
        question: the text.
        shown: show what is typed.

    Raises:
        ConversationFailed: there was no answer.
    """
    style = pamh.PAM_PROMPT_ECHO_ON if shown else pamh.PAM_PROMPT_ECHO_OFF
    try:
        typed = pamh.conversation(pamh.Message(style, f"{question} ")).resp
    except pamh.exception:
        raise errors.ConversationFailed from None
    if typed is None:
        raise errors.ConversationFailed
    return str(typed)


def password_of(pamh: Any) -> str:
    """Return the password that an earlier module asked for. It is empty when there is none.

    Raises:
        ConversationFailed: PAM refused to return it.
    """
    try:
        password = pamh.authtok
    except pamh.exception:
        raise errors.ConversationFailed from None
    return str(password) if password is not None else ""


def set_password(pamh: Any, password: str) -> None:
    """Store a password for the next module.

    Raises:
        ConversationFailed: PAM refused to store it.
    """
    try:
        pamh.authtok = password
    except pamh.exception:
        raise errors.ConversationFailed from None


def tell(pamh: Any, style: int, text: str, record: log.Log) -> None:
    """Show a text to the person. The verdict stands, whether or not the application shows the text."""
    try:
        pamh.conversation(pamh.Message(style, text))
    except pamh.exception:
        record.note(log.WARNING, "the application did not show a message")


def account_of(pamh: Any) -> safe_open.Account:
    """Return the user's account, under the canonical name. Looks the user up, unless the bridge already has.

    Raises:
        UnknownUser: this host knows no such user.
        LookUpFailed: the host cannot tell.
        NotRelayed: the application may not ask about this user.
    """
    try:
        known: safe_open.Account | None = pamh.account
    except AttributeError:
        from pam_softtoken.account import user_lookup  # noqa: PLC0415 - only pam_python leaves it to us

        return user_lookup.account_of_name(pamh.get_user(None))
    if known is None:
        raise pamh.obstacle or errors.UnknownUser
    return known


def caller_uid_of(pamh: Any) -> int:
    """Return the real uid of the application. Under pam_python that is our own."""
    try:
        return int(pamh.caller_uid)
    except AttributeError:
        return os.getuid()


def session_of(pamh: Any) -> int:
    """Return the session of the application. Under pam_python that is our own."""
    try:
        return int(pamh.session)
    except AttributeError:
        return os.getsid(0)


def is_peer(pamh: Any) -> bool:
    """Check whether the application does not run as root, and may ask about other users all the same."""
    return getattr(pamh, "is_peer", False)
