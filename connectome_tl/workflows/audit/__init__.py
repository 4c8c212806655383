"""Command `audit`: compare a run folder with what its settings and data give."""
