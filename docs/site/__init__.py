"""Builds pages for `make docs`, `make pages` and `make figures`: links, drawings, derived tables, figures."""
