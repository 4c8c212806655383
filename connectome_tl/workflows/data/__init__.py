"""Commands on data: cohorts, matrices, tractograms, atlases."""
