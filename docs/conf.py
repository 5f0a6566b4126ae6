"""
How Sphinx makes the pages of this folder.
"""

from __future__ import annotations

from tlsproxy import __version__

project = "tlsproxy"
author = "tlsproxy contributors"
copyright = author
version = release = __version__.public()

exclude_patterns = ["_build", "apidocs"]
nitpicky = True
html_theme = "alabaster"
html_theme_options = {"description": "TLS proxies you can program", "page_width": "1100px"}
