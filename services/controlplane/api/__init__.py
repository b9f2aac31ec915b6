"""The control plane's gRPC services, except xDS: they read requests, call ``publishing``, and write answers.

Translation between messages and values, and the audit log, belong here. Decisions belong in the rooms below.
"""
