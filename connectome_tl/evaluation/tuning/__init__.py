"""Settings searched on the inner folds of each outer fold: spaces, trials, and the database that holds them."""
