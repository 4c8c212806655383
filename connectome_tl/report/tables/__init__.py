"""Tables as texts, and as files to download."""
