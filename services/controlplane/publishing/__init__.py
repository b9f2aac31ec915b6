"""Publishing: a revision's phases, what each node is sent in each of them, and other control planes in step.

What changes because of a publish or of a replica belongs here. Reading an RPC and answering it belongs in ``api``.
"""
