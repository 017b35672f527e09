"""One user's files: opened as the user, locked, stored durably; the state and the enrolled mark. May import `otp` and the root modules."""
