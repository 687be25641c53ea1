"""Configuration of Sphinx. `tox run -e docs` builds the pages with warnings as errors."""

import prologue

project = "Prologue for Python"
author = "The authors of Prologue for Python"
version = release = prologue.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
highlight_language = "none"
autodoc_member_order = "bysource"

html_theme = "alabaster"
html_theme_options = {"description": "Reduce magic. Reduce surprise.", "page_width": "64rem"}
html_copy_source = False
