"""Simple models that any network has to beat, on the same splits and rows."""
