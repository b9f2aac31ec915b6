"""The renderer: follows the rules for a proxy that cannot, and configures it.

Here belongs what is the same for all proxies; each has a file in :mod:`lab.plugins.proxies`.
"""
