"""Feature steps: fitted on training rows and applied to any rows."""
