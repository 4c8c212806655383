"""Permutation tests that refit models under permuted outcome rows."""
