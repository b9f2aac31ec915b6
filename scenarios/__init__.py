"""Claims about the lab, as pytest scenarios: given, when, then. Names are the claims.

Here belongs what a topology promises. Whether the lab itself is right is tested in ``tests``.
"""
