"""The documentation, and what builds it: pages are Markdown, ``site`` holds the code, ``examples`` what pages show.

Here belongs what a reader reads. What only a developer of one module needs stands in that module.
"""
