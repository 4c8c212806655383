"""Fits: one loop, plans in, results out; three stages as records."""
