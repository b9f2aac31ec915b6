"""A stand-in for a model server: answers that prove who gave them, and behaviour that can be dialled.

Here belongs what one replica process does. Which versions it holds is decided by the control plane.
"""
