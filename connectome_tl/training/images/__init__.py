"""Methods that are trained on volumes: brain age in stages, synthesis, contrast between volumes, maps, pruning."""
