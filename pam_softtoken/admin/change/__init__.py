"""A change of a service that goes back by itself unless it is confirmed."""
