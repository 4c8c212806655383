"""Matrices, regional measures and volumes of a cohort: matching to subjects and checks."""
