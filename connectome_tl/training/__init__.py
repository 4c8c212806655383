"""Training: fit plans in, fitted models and predictions out."""
