"""The SSH server: its configuration, `Match` blocks, effective settings, and making it read them again."""
