"""One attempt: ask, judge, record, answer; and enrolment in a login. Loads the standard library only."""
