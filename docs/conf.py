"""Sphinx settings of the guide: `make docs`."""

import connectome_tl

project = "connectome_tl"
author = "The connectome_tl developers"
copyright = author
release = version = connectome_tl.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Notebooks are executed by the tests (nbmake), not while the guide is built.
nb_execution_mode = "off"
html_theme = "furo"
html_title = "connectome_tl"
exclude_patterns = ["_build", "decisions"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
suppress_warnings = ["myst.xref_missing"]
