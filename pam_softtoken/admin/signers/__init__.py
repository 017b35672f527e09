"""Look after tokens that sign sudo commands: what is known of a user, revocation, relief."""
