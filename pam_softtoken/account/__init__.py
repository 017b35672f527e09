"""One user's files: opened as the user, locked, stored durably. Also their state, and root's records of the user."""
