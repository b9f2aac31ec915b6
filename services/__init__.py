"""What runs as its own process: control plane, resolver, gateway, caller.

A service knows addresses, not where it runs: nothing here imports a runtime.
"""
