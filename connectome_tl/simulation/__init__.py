"""Cohorts, phantoms and volumes with a known truth."""
