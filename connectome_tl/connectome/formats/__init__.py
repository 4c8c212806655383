"""Importers of matrix files, one module per file format."""
