"""What `make docs` and `make figures` need beside Sphinx: links, drawings, figures with their runs."""
