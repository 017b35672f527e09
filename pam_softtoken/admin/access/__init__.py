"""Which users get in, and how: computed from sshd's settings, PAM's paths and enrolment."""
