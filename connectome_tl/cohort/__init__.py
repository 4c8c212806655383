"""Cohorts: subjects, tables, outcomes, and the plan of training and test rows."""
