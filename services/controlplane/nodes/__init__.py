"""The nodes: registered replicas and what they hold, and subscribers to a stream and how far each has applied it.

State about nodes belongs here. What they are sent belongs in ``xds`` and ``publishing``; their RPCs, in ``api``.
"""
