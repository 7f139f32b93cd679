"""Sphinx configuration: MyST for the chapters, autodoc for the reference, sphinx-gallery for the demos.

The pages need no network: formulas are MathML, which browsers draw themselves.
"""

import os
import sys
from pathlib import Path
from typing import ClassVar

import latex2mathml.converter
from docutils import nodes
from docutils.parsers.rst import Directive, directives

import microgradopt
from microgradopt.page import explorable

sys.path.insert(0, str(Path(__file__).parent))
from figures import FIGURES

project = "microgradopt"
author = "The microgradopt authors"
copyright = "2026, the microgradopt authors"
release = version = microgradopt.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["colon_fence", "dollarmath", "substitution"]
myst_heading_anchors = 3
# The list of functions is asked of the library, so that it cannot drift.
myst_substitutions = {
    "supported": ", ".join(f"`{name}`" for name in microgradopt.rules.supported()),
    "supported_count": str(len(microgradopt.rules.supported())),
}
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "none"
exclude_patterns = ["_build", "results", "demos/*.md5", "demos/*.ipynb", "demos/*.py"]
suppress_warnings = ["config.cache"]  # a function below: what is kept of the last build is no use anyway
html_extra_path = ["results/neuron.html"]  # a page of its own
default_role = "code"
html_math_renderer = "mathml"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css", "live/live.css"]
html_title = "microgradopt"

# The demos run at their smallest while the pages are built. The chapters show what they gave in full (docs/results).
_DEMOS = str(Path(__file__).parent.parent / "demos")
os.environ["PYTHONPATH"] = os.pathsep.join([_DEMOS, os.environ.get("PYTHONPATH", "")])  # for their processes
sys.path.insert(0, _DEMOS)
_PICTURES = Path(__file__).parent / "_build" / "demos"
_PICTURES.mkdir(parents=True, exist_ok=True)


def _smallest(gallery_conf, script_vars):
    """The command line that a demo sees."""
    return ["--quick", "--out", str(_PICTURES)]


sphinx_gallery_conf = {
    "examples_dirs": "../demos",
    "gallery_dirs": "demos",
    "filename_pattern": r"[/\\]\d\d_",
    "ignore_pattern": r"lab\.py|__init__\.py|__main__\.py|playground\.py",
    "within_subsection_order": "FileNameSortKey",
    "reset_argv": _smallest,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,  # a page whose tables come from the network
    "remove_config_comments": True,
    "min_reported_time": 1000,
    "abort_on_example_error": True,
    "capture_repr": (),
    "first_notebook_cell": "# Start Jupyter in the folder demos/ of a clone of microgradopt, where lab.py is.",
}


def _bars(app, what, name, obj, options, lines):
    """In docstrings |λ| is an absolute value, where reStructuredText would look for a substitution."""
    lines[:] = [line if line.startswith(" ") else line.replace("|", r"\|") for line in lines]


def _inline(translator, node):
    """A formula in a line of text."""
    translator.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def _displayed(translator, node):
    """A formula on lines of its own."""
    formula = latex2mathml.converter.convert(node.astext(), display="block")
    translator.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


class LiveFigure(Directive):
    """A figure of figures.py. Without a script, the reader sees the still picture."""

    required_arguments = 1
    option_spec: ClassVar = {"still": directives.uri, "alt": directives.unchanged_required}

    def run(self):
        """The picture, in an element that the figure's script takes over."""
        name, env = self.arguments[0], self.state.document.settings.env
        if name not in FIGURES:
            raise self.error(f"live: no figure {name!r}; there are {', '.join(FIGURES)}")
        scripts = [] if hasattr(self.state.document, "has_live") else ["live"]
        self.state.document.has_live = True
        up = "../" * env.docname.count("/")
        tags = "".join(f'<script src="{up}_static/live/{script}.js"></script>\n' for script in [*scripts, name])
        return [
            nodes.raw("", f'<figure class="live" data-figure="{name}">\n', format="html"),
            nodes.image(uri=self.options["still"], alt=self.options["alt"]),
            nodes.raw("", f"</figure>\n{tags}", format="html"),
        ]


def _figures(app):
    """The scripts of the live figures, derived anew."""
    folder = Path(__file__).parent / "_static" / "live"
    folder.mkdir(exist_ok=True)
    for name in ("live.js", "live.css"):
        (folder / name).write_text(explorable.asset(name), encoding="utf-8")
    for name, make in FIGURES.items():
        (folder / f"{name}.js").write_text(explorable.script_of(name, make()), encoding="utf-8")


def setup(app):
    """Called by Sphinx."""
    app.add_directive("live", LiveFigure)
    app.connect("builder-inited", _figures)
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
    app.connect("autodoc-process-docstring", _bars)
