"""The paths of everything that root keeps about users. No other module spells them. Imports nothing.

`pam_softtoken.c` has its own spelling of `CHANGES`, because it is compiled. A test compares the two.
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
FLEET = f"{DATA}/.fleet"
"""What this host has accepted from tokens of a realm, see `fleet.local_record`."""
RUN = "/run/softtoken"
"""What counts only until a restart, see `ram_record`."""
SYSTEM_STORE = f"{DATA}/%U"
"""The `store` option for tokens that root keeps."""
