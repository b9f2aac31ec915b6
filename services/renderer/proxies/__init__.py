"""The proxies that a renderer runs and configures, one file each.

Here belongs what is one program's own: its command, its configuration, and how a change reaches it. To add a proxy, add
a file here with a :class:`~services.renderer.proxy.ProxyRenderer`, name its module by an entry point of the group
``routing_lab.renderers``, or give the file to ``--plugin``. Its role and its topology are values of the same kind.
"""
