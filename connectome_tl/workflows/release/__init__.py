"""What leaves the lab: bundles made, applied and validated."""
