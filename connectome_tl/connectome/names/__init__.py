"""Matching of matrix rows to regions: labels, label tables, spellings, order."""
