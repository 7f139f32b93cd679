"""Sphinx configuration: MyST for the chapters, autodoc for the reference."""

import microgradopt

project = "microgradopt"
author = "The microgradopt authors"
copyright = "2026, the microgradopt authors"
release = version = microgradopt.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "substitution"]
myst_heading_anchors = 3
# The list of functions is asked of the library, so that it cannot drift.
myst_substitutions = {
    "supported": ", ".join(f"`{name}`" for name in microgradopt.rules.supported()),
    "supported_count": str(len(microgradopt.rules.supported())),
}
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "none"
exclude_patterns = ["_build"]
html_extra_path = ["pictures/neuron.html"]  # a page of its own
default_role = "code"
html_theme = "furo"
html_title = "microgradopt"


def _bars(app, what, name, obj, options, lines):
    """In docstrings |λ| is an absolute value, where reStructuredText would look for a substitution."""
    lines[:] = [line if line.startswith(" ") else line.replace("|", r"\|") for line in lines]


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _bars)
