"""A model that generates tokens: how long it takes, what its KV cache holds, and what it keeps of both as evidence.

Belongs here what makes tokens cost time and blocks. The RPCs and admission are in ``models.stub``.
"""
