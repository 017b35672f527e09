"""`softtoken`: the soft token itself, on the person's own device."""
