"""Both ends of the socket between host process and backend: the C module, and `backend` and `wire` in Python."""
