"""The stub model server: its answers prove who gave them, and its behaviour can be changed while it runs.

What one replica does belongs here. The control plane decides which versions it holds.
"""
