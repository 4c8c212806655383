"""Encoders: one module each, from the rows of a modality to an embedding."""
