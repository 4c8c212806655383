"""Settings of volumes and of the methods on them."""
