"""What the person is asked and told, and the password that an earlier module asked for or a later one gets."""

from __future__ import annotations

from pam_softtoken import config as configuration
from pam_softtoken import log
from pam_softtoken.errors import ConversationFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_softtoken.config import Config
    from pam_softtoken.log import Log

COMBINED_PROMPT = "Password & verification code:"


def ask(pamh: Any, config: Config) -> str:
    """Show the prompt and return the answer.

    Raises:
        ConversationFailed: there is none.
    """
    style = pamh.PAM_PROMPT_ECHO_ON if config.echo else pamh.PAM_PROMPT_ECHO_OFF
    prompt = config.prompt
    if config.forward_pass and prompt == configuration.DEFAULT_PROMPT:
        prompt = COMBINED_PROMPT
    try:
        answer = pamh.conversation(pamh.Message(style, prompt + " ")).resp
    except pamh.exception:
        raise ConversationFailed from None
    if answer is None:
        raise ConversationFailed
    return str(answer)


def first_pass(pamh: Any) -> str:
    """Give the password that an earlier module has asked for; empty when there is none.

    Raises:
        ConversationFailed: PAM would not give it.
    """
    try:
        password = pamh.authtok
    except pamh.exception:
        raise ConversationFailed from None
    return str(password) if password is not None else ""


def forward(pamh: Any, password: str) -> None:
    """Leave a password for the next module.

    Raises:
        ConversationFailed: PAM would not take it.
    """
    try:
        pamh.authtok = password
    except pamh.exception:
        raise ConversationFailed from None


def tell(pamh: Any, style: int, text: str, record: Log) -> None:
    """Show a text to the person. What was decided stands, whether the application shows it or not."""
    try:
        pamh.conversation(pamh.Message(style, text))
    except pamh.exception:
        record.note(log.WARNING, "the application did not show a message")
