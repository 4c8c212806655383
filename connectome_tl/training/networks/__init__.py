"""Networks: batches, training loop, stages 1 to 3, ensembles."""
