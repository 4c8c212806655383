"""Demonstration studies of simulated data."""
