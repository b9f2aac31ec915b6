"""A service that asks models in order to do its own work."""
