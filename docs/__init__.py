"""The documentation: pages in Markdown, the code that builds them (``site``) and that they show (``examples``).

Here belongs documentation for users and for contributors. Details of one module belong in that module.
"""
