"""A service that calls models to do its own work."""
