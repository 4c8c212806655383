"""Out-of-fold predictions to scores and paired differences."""
