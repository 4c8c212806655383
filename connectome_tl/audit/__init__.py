"""Audit of a finished run: refit, recompute, and test for leakage."""
