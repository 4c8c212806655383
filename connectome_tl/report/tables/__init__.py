"""Tables of the report, as text and as downloads."""
