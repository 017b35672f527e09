"""Handle the SSH server: its configuration, `Match` blocks, effective settings, and reload."""
