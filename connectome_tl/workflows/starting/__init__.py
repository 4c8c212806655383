"""A lab's own table and matrices to settings: look, ask, write."""
