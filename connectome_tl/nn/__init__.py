"""Ordinary torch modules: tensors and settings only, no file, table or subject."""
