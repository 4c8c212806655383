"""Matrices, regional measures and volumes of a cohort: whose is which, and their checks."""
