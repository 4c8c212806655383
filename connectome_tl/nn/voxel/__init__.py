"""3D networks on volumes: encoders, their weight files, and what a processor computes right."""
