"""Texts of the report: summary, verdicts, methods, references, checklists, model card."""
