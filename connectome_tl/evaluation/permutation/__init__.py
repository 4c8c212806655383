"""Permutation tests that refit everything under permuted outcome rows."""
