"""`softtoken-admin doctor`: what leads past the code, and what keeps users out."""
