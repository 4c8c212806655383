"""What columns mean: ids, ages, numbers, categories, outcomes."""
