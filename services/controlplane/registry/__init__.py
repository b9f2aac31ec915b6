"""The registry: every revision of the route table and what became of it, in SQLite or PostgreSQL.

What is stored, and how, belongs here. Who receives a revision, and in which order, belongs in ``publishing``.
"""
