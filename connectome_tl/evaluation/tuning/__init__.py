"""Hyperparameter search on the inner folds of each outer fold."""
