"""Diffusion data to orientations, streamlines and maps."""
