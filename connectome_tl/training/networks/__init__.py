"""Networks: rows to batches, the training loop, stages 1 to 3 and ensembles."""
