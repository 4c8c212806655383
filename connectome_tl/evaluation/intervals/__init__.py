"""Intervals for out-of-fold scores: repeated cross-validation, resampled t test, conformal sets."""
