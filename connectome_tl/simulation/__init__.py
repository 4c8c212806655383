"""Simulated cohorts, phantoms and volumes with known truth."""
