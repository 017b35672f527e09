"""What a change is called in messages. It is about a PAM service, or about the signatures that sudo asks for."""

from __future__ import annotations

from pam_softtoken.login.login_note import SIGNING
from pam_softtoken.pam import service_file
from pam_softtoken.signing import sudo_conf


def kept(service: str, *, how_it_ends: bool) -> str:
    """Return the last message about a change that stays."""
    if service == SIGNING:
        end = "; softtoken-admin disable sudo --sign ends it" if how_it_ends else ""
        return f"Done. sudo asks for signatures from now on{end}."
    if how_it_ends:
        return f'Done. "{service}" asks for a code from now on; softtoken-admin disable {service} ends it.'
    return f'Done. "{service}" asks for a code from now on.'


def confirmation(service: str) -> str:
    """Return what confirms a change by itself."""
    return "a signed command" if service == SIGNING else "a login with a code"


def confirm_command(service: str) -> str:
    """Return the command that keeps a change without such a confirmation."""
    return f"softtoken-admin confirm {service}"


def disable_command(service: str) -> str:
    """Return the command that takes a change back."""
    return "softtoken-admin disable sudo --sign" if service == SIGNING else f"softtoken-admin disable {service}"


def main_file(service: str) -> str:
    """Return the file that a change is about."""
    return sudo_conf.PATH if service == SIGNING else f"{service_file.DIRECTORY}/{service}"
