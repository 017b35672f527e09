"""PAM services: read the way libpam reads them, and followed from line to line."""
