"""Ranking of titles for one user."""
