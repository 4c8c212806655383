"""What a network is trained for: one interface, with and without labels."""
