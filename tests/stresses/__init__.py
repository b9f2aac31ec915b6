"""Honest stresses: labs without a bug, under what labs meet; no run of theirs may be called wrong."""
