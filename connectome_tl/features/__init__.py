"""Rows to tensors. Everything here is fitted on training rows, remembers them, and is passed in."""
