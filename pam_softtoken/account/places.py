"""The paths of everything that root keeps about users. No other module spells them. Imports nothing.

`pam_softtoken.c` has its own spelling of `CHANGES`, and `service.h` of `RELAY_SOCKET`, because they are compiled. A
test compares them.
"""

DATA = "/var/lib/softtoken"
"""What a restart must not lose. Under `SYSTEM_STORE`, the users' directories are here too."""
ENROLLED = f"{DATA}/enrolled"
"""The marks of users who were accepted once, see `enrolled_mark`."""
NAMES = f"{DATA}/.names"
"""Their records by name. Under `store=/var/lib/softtoken/%u`, no user's directory starts with a dot."""
REVOKED = f"{DATA}/revoked"
"""What root has revoked, see `revocation`."""
CHANGES = f"{DATA}/changes"
"""Changes of PAM services that wait to be confirmed, see `login_note`."""
RUN = "/run/softtoken"
"""What counts only until a restart, see `ram_record`."""
RELAY_SOCKET = f"{RUN}/login.sock"
"""Programs that do not run as root ask here, see `bridge/relay`."""
RELAY_SLOTS = f"{RUN}/slots-"
"""Before a uid: the file whose locks count the programs of this user that are being served."""
SYSTEM_STORE = f"{DATA}/%U"
"""The `store` option for tokens that root keeps."""
SIGNERS = f"{DATA}/sign"
"""The tokens that sign sudo commands, and the marks of their users, see `signers`."""
SIGN_STORE = f"{SIGNERS}/%U"
"""The place of a user's tokens that sign, in the form of the `store` option."""
