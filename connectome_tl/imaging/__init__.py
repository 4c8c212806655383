"""From images to streamlines: reading, checking, registering, reconstructing, tracking."""
