"""Who gets in, and how: sshd's settings, PAM's paths and enrolment put together."""
