"""Interpretation of table columns: ids, ages, numbers, categories, outcomes."""
