"""Implement `softtoken-admin`, root's program for a host and its users. `program` reads the command line."""
