"""Learners of baselines: ridge, kernels and logistic regression for many labelings at once."""
