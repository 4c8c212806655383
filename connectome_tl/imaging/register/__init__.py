"""Registration of templates with subjects, and checks of its success."""
