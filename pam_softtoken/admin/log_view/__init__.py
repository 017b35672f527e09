"""Implement `softtoken-admin log`: show the journal and the log files as a table."""
