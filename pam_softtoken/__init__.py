"""A second factor for Linux logins: one-time passwords from a soft token, asked for through PAM."""

__version__ = "0.1.0"
