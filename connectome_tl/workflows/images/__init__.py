"""Commands on volumes: grids, maps, contrasts, embeddings, pruning."""
