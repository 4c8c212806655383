"""A template into a subject, and the check that it arrived."""
