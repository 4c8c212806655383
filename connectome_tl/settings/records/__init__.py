"""Result records of runs, as plain data for the report."""
