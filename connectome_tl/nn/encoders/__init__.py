"""Encoders: map the rows of a modality to an embedding, one module each."""
