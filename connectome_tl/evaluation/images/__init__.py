"""Networks on volumes: maps of importance, their checks, pruning, brain-age gaps."""
