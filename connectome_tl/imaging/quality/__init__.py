"""Quality control of raw diffusion data."""
