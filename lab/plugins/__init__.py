"""Plug-ins of the lab's own, one package each, which use public registries alone, as those of strangers do.

An entry point in ``pyproject.toml`` registers each. Nothing outside this package imports them.
"""
