"""Baselines: simple models on the same splits and feature rows."""
