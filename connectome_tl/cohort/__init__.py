"""Who is in the study: subjects, tables, outcomes, and the plan of who trains and who tests."""
