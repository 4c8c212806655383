"""Settings of volumes and of image methods."""
