"""Volumes on the grid of a study: foreground, resampling, checks, cache, label maps."""
