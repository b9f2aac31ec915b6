"""What runs as a process of its own: control plane, resolver, gateway, caller.

A service knows addresses, not where it runs: nothing here imports a runtime.
"""
