"""The HTML, Markdown and JSON reports of ``compress`` and ``score``.

Their tables and plots. Nothing is measured here.
"""
