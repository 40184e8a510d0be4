"""Sphinx: `make docs` builds these pages as HTML."""

project = "usim"
copyright = "2026, the usim authors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "usim"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# `sh-fails` marks blocks of the tutorial whose last command must fail.
suppress_warnings = ["misc.highlighting_failure"]
