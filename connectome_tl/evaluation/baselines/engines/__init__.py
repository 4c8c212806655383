"""What baselines learn with: ridge, kernels and logistic regression for many labelings at once."""
