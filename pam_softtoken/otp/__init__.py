"""RFC 4226 and 6238 and the values: token, recovery code, PIN. No I/O, no clock."""
