"""Torch modules: tensors and settings only, no files, tables or subjects."""
