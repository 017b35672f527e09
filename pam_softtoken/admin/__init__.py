"""`softtoken-admin`: what root does for a host and its users. `program` reads the command line, the others do it."""
