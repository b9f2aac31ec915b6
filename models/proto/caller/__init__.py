"""The API of a caller service: one call to a model, or a page that takes several."""
