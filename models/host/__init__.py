"""The model host: a few processes that answer in the name of thousands of clusters, told apart by address alone.

For labs larger than the machine. What a single stub says of itself and how it answers lives in ``models.stub``.
"""
