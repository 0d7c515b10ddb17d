"""Sphinx configuration: Markdown (MyST), numpydoc, furo; nothing is loaded from another host."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT, ROOT / "device", ROOT / "calibration"):  # builds without an install, too
    sys.path.insert(0, str(folder))

from pygments.lexers.special import TextLexer  # noqa: E402  the path comes first
from sphinx.highlighting import lexers  # noqa: E402

from edgeprune import __version__  # noqa: E402

lexers["tree"] = TextLexer()  # CONTRIBUTING's tree of modules

project = "edgeprune"
author = "the edgeprune contributors"
project_copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build", "generators"]
source_suffix = {".md": "markdown"}
nitpicky = True
nitpick_ignore_regex = [  # types in signatures; their documentation lies on other hosts
    ("py:.*", r"(numpy|np|torch|transformers|pathlib|collections|typing|types)\..*"),
    ("py:.*", r"(Path|NDArray|Tensor|Any|Callable|Mapping|Sequence|Hashable|Iterator|Ui|Say)"),
    ("py:.*", r"(edgeprune|edgeprune_device|edgeprune_calibration)\..*"),
    ("py:.*", r"(tuple|dict|list)\[.*"),
]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
smartquotes = False  # an option begins with two hyphens

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autosummary_generate = False  # numpydoc loads it; nothing here needs it
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = f"edgeprune {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b6b4f", "color-brand-content": "#0b6b4f"},
    "dark_css_variables": {"color-brand-primary": "#5fd0a5", "color-brand-content": "#5fd0a5"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
