"""Find out which users get in, and how, from sshd's settings, PAM's paths and enrolment."""
