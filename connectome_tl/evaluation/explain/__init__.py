"""Explanations of fitted models on held-out rows: maps over edges, regions and covariates."""
