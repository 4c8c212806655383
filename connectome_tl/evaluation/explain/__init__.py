"""What fitted models look at: maps over edges, regions and covariates, computed on held-out rows."""
