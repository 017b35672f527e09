"""Both ends of the socket between the host process and the backend: the C module, and `backend` and `wire`."""
