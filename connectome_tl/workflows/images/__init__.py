"""Commands on volumes of a study: grids, maps, contrasts, embeddings, pruning."""
