"""Ask for a signature over a sudo command, and check it."""
