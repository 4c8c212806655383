"""Sentences: the answer, the verdict, methods, references, checklists, the model card."""
