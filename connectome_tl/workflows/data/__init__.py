"""Commands on data: cohorts checked, matrices converted, tractograms assembled, atlases listed."""
