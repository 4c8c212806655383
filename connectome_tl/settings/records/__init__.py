"""What runs found, as plain records that the report shows; nothing here computes."""
