"""Commands on scans: steps shared by `connectomes` and `morphometry`, and per-scan processing."""
