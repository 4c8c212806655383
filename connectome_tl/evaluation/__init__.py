"""How good is it, really: folds, scores with intervals, baselines, controls, permutations, the verdict."""
