"""One user's files: opened as the user, locked, stored durably; their state, and what root records of the user."""
