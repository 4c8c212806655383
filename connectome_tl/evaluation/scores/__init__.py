"""Scores and paired differences of out-of-fold predictions."""
