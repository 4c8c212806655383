"""Closed-form core: kernel ridge over blocks of features, stacked and averaged."""
