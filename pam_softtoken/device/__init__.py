"""`softtoken`: the soft token itself, on the user's own device. It needs no PAM and nothing of a host's set-up."""
