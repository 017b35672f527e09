"""PAM services that ask for a code: their lines, options, exempt groups, and ways past the code."""
