"""Commands on bundles: create, predict, validate."""
