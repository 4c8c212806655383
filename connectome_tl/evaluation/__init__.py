"""Evaluation: folds, scores with intervals, baselines, controls, permutation tests."""
