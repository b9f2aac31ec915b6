"""Runs the scenarios of this folder by the machinery in ``scenarios.framework``."""

pytest_plugins = ["scenarios.framework.plugin"]
