"""Matrices with names: the connectome, how it is made, read, measured and checked."""
