"""The control plane: revisions, publishing, endpoint registration, and xDS and rules streams to those who route.

Here belongs what decides what every node holds, and when. How a rule is read or matched lives in ``lab.routing``.
"""
