"""`softtoken-enroll`: link soft tokens to an account. May import everything but `admin` and `device`."""
