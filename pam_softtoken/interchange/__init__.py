"""Formats of other programs, read and written. May import `otp` and the root modules."""
