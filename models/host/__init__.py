"""The model host: few processes that stand in for thousands of clusters, which differ only in address.

It is for labs larger than the machine. The behaviour of a single stub belongs in ``models.stub``.
"""
