"""Sphinx settings of the guide: `make docs`; `make docs-executed` also runs the tutorials, with small settings."""

import os
from pathlib import Path

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
# tests/notebooks executes the notebooks. They are stored without outputs, and have none in the guide unless asked for.
nb_execution_mode = "cache" if os.environ.get("CONNECTOME_TL_EXECUTE") == "1" else "off"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # such as a note of tqdm on missing widgets
html_theme = "furo"
html_title = "connectome_tl"
exclude_patterns = ["_build", "decisions"]  # records for developers
autodoc_typehints = "description"
autodoc_member_order = "bysource"
suppress_warnings = ["myst.xref_missing"]

# The notebooks lie outside of this folder. Unchanged ones keep their time, so that their pages are not built again.
for notebook in sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb")):
    page = Path(__file__).parent / "tutorials" / notebook.name
    page.parent.mkdir(exist_ok=True)
    if not page.is_file() or page.read_bytes() != notebook.read_bytes():
        page.write_bytes(notebook.read_bytes())
