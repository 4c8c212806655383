"""Settings as frozen, validated models, and torch-free result records."""
