"""The leakage guard: what a run promises, tested by what it does and not by what it says."""
