"""Learners of baselines: ridge, kernels and logistic regression for many labellings at once."""
