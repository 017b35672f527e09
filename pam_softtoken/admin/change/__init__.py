"""Apply a change to a service, and undo it automatically unless it is confirmed."""
