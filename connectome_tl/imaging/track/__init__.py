"""Fibre orientations, tractography and maps from diffusion data."""
