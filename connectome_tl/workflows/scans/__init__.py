"""From scans to networks: what `connectomes` and `morphometry` share, and what each makes of a scan."""
