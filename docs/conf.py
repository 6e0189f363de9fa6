"""The site's configuration. Sphinx reads the executed notebooks: `python docs/execute.py`, then `python docs/build.py`."""
import sys
from configparser import ConfigParser
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here.parent), str(here)]

settings = ConfigParser(delimiters=["="])
settings.read(here.parent / "settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]

project = settings["lib_name"]
release = version = settings["version"]
author = settings["author"]
copyright = settings["copyright"]
language = "en"
smartquotes = False  # "tanh" is code, not speech

extensions = ["myst_nb", "nbdev_cells", "reference", "equations", "code_links", "offline_math", "plain_pages", "accessible", "lighter",
              "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["**/.*", ".*", "**/_*"]
root_doc = "index"

# notebooks: executed already; anything they print to stderr is a warning that nobody should have to read
nb_execution_mode = "off"
nb_output_stderr = "warn"
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"

# text: what GitHub and Jupyter show too; headings have Jupyter's anchors, so that a link works in all three
myst_enable_extensions = ["alert", "amsmath", "dollarmath", "html_image", "strikethrough", "deflist"]
myst_heading_anchors = 4
myst_heading_slug_func = "nbdev_cells.anchor"
myst_update_mathjax = False
myst_all_links_external = False

autodoc_typehints = "none"
autodoc_class_signature = "mixed"
toc_object_entries_show_parents = "hide"
add_module_names = False
python_maximum_signature_line_length = 76

# light or dark is settled before anything is drawn; the theme alone leaves it open on the first page of a visit, and complains
EARLY_THEME = ('(d => { d.mode ||= "auto"; d.theme ||= matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"; })'
               "(document.documentElement.dataset)")

html_theme = "sphinx_book_theme"
html_title = project
html_favicon = str(here / "icon.svg")
html_static_path = [str(here / "custom.css")]
html_css_files = ["custom.css"]
html_js_files = [(None, {"body": EARLY_THEME, "priority": 100})]
html_show_sphinx = False
html_domain_indices = False  # the reference lists the modules
html_copy_source = True
html_sourcelink_suffix = ""
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_fullscreen_button": False,
    "use_download_button": True,
    "repository_url": f"https://github.com/{settings['user']}/{settings['repo']}",
    "repository_branch": settings["branch"],
    "path_to_docs": settings["nbs_path"],
    "launch_buttons": {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org",
                       "colab_url": "https://colab.research.google.com"},
    "navigation_with_keys": True,
    "home_page_in_toc": True,
    "navbar_start": [], "navbar_center": [], "navbar_end": [], "navbar_persistent": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_selector = ", ".join(f"div.{block} pre" for block in (
    "cell_input", "highlight-python", "highlight-bash", "highlight-sh", "highlight-console"))
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
