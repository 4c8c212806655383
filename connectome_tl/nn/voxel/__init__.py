"""3D networks on volumes: encoders, pretrained weights, numerical precision."""
