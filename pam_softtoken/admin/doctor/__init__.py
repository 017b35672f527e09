"""Implement `softtoken-admin doctor`: find ways past the code, and faults that lock users out."""
