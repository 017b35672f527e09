"""`softtoken-admin log`: the journal and the log files, as a table."""
