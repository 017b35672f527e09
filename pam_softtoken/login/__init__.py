"""One login attempt: ask, judge, record, answer. Also enrolment during a login. Loads the standard library only."""
