"""The control of a PAM line: the effect of its module's return code. Pure.

Source:
    `_pam_parse_control` and the words in `_pam_parse_conf_file`, libpam 1.5.2 and 1.7.0.
"""

from __future__ import annotations

RETURN_CODES = (
    "success", "open_err", "symbol_err", "service_err", "system_err", "buf_err", "perm_denied", "auth_err",
    "cred_insufficient", "authinfo_unavail", "user_unknown", "maxtries", "new_authtok_reqd", "acct_expired",
    "session_err", "cred_unavail", "cred_expired", "cred_err", "no_module_data", "conv_err", "authtok_err",
    "authtok_recover_err", "authtok_lock_busy", "authtok_disable_aging", "try_again", "ignore", "abort",
    "authtok_expired", "module_unknown", "bad_item", "conv_again", "incomplete",
)  # fmt: skip
"""The return codes in the order of their numbers."""
DEFAULT = "default"
WORDS = {
    "required": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", DEFAULT: "bad"},
    "requisite": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", DEFAULT: "die"},
    "sufficient": {"success": "done", "new_authtok_reqd": "done", DEFAULT: "ignore"},
    "optional": {"success": "ok", "new_authtok_reqd": "ok", DEFAULT: "ignore"},
}
ALL_BAD = {DEFAULT: "bad"}
"""The actions of a control that libpam cannot read."""
_ACTIONS = ("ignore", "ok", "done", "bad", "die", "reset")
_SPACES = " \t\n\v\f\r"
_DIGITS = "0123456789"
_MOST_HOPS = 2**31 - 1


class BadControl(Exception):
    """libpam cannot read the control."""


def actions_of(control: str) -> dict[str, str]:
    """Return the action of a control for each return code. `default` is always there. Jumps are decimal numbers.

    Raises:
        BadControl: libpam then treats every answer as a failure, even success.
    """
    if control in WORDS:
        return WORDS[control]
    actions: dict[str, str] = {}
    rest = control.lstrip(_SPACES)
    while rest:
        code, rest = _prefix(rest, (*RETURN_CODES, DEFAULT))
        rest = rest.lstrip(_SPACES)
        if not rest.startswith("="):
            raise BadControl
        action, rest = _action(rest[1:].lstrip(_SPACES))
        if code == DEFAULT:
            actions.setdefault(DEFAULT, action)  # `default` sets only what is not set yet
        else:
            actions[code] = action
        rest = rest.lstrip(_SPACES)
    actions.setdefault(DEFAULT, "bad")
    return actions


def _prefix(text: str, words: tuple[str, ...]) -> tuple[str, str]:
    for word in words:
        if text.startswith(word):
            return word, text[len(word) :]
    raise BadControl


def _action(text: str) -> tuple[str, str]:
    rest = text.lstrip(_DIGITS)
    if len(rest) == len(text):
        return _prefix(text, _ACTIONS)
    hops = text[: len(text) - len(rest)].lstrip("0")
    if not hops or len(hops) > len(str(_MOST_HOPS)) or int(hops) > _MOST_HOPS:  # overflows in libpam 1.5.2
        raise BadControl
    return hops, rest


def jump_of(actions: dict[str, str]) -> int:
    """Return the largest number of lines that a control jumps over; 0 for none."""
    return max((int(action) for action in actions.values() if action.isdecimal()), default=0)
