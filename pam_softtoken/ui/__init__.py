"""Terminal output and input, command lines, tables, QR codes. May import the root modules."""
