"""Settings of the web page that `make html` builds from the executed notebooks; it needs nothing from the internet."""

from importlib.metadata import files

from myst_nb.core.render import NbElementRenderer

project = "Sparsity invariant convolution, tested on classification"
author = "The sparsecnn authors"
copyright = f"2026, {author}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["README.md"]  # a part of it stands on the front page

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
# The API's pages: what the docstrings say, in the order of the source.
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_param = False  # arguments that share a description stay together
nb_execution_mode = "off"  # they are executed
nb_merge_streams = True
# A widget (a progress bar of `make report`, say) is shown as its text: to be live it would need scripts from elsewhere.
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

html_theme = "sphinx_book_theme"
html_title = "Sparsity invariant convolution"
html_css_files = ["site.css"]
html_theme_options = {"show_toc_level": 2, "use_download_button": False, "navbar_persistent": []}
html_copy_source = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
# The one of MathJax's builds that needs no font files.
mathjax_path = "tex-svg.js"
html_static_path = [
    "site.css",
    *(str(file.locate()) for file in files("sphinx-mathjax-offline") if file.match("static/mathjax/tex-svg.js")),
]

render_image = NbElementRenderer.render_image


def render_image_with_alt(renderer, data):
    """myst-nb takes an image's size from the output's metadata, and its alternative text only from the cell's."""
    images = render_image(renderer, data)
    for image in images:
        image["alt"] = data.output_metadata.get(data.mime_type, {}).get("alt", "")
    return images


NbElementRenderer.render_image = render_image_with_alt
