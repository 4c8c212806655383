"""Model bundles: what may be released, how it is checked and how it is read."""
