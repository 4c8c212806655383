"""Connectomes: assembly, reading, naming of rows, measures and checks."""
