"""Share code among the commands of `softtoken-admin`: findings, users, time spans, bounded reads."""
