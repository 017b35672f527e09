"""What the commands of `softtoken-admin` share: findings, people, time spans, bounded reads."""
