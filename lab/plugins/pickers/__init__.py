"""Pickers for models that generate tokens, one file each; the load that tells them apart; and their second readers.

The oracle, ``checker``, shares no code with the pickers: ``readers`` has each policy a second time.
"""
