"""Create settings from a user's table and matrices."""
