"""The renderer: follows the rules for a proxy that cannot, and configures it.

Here belongs how NGINX and other proxies are started, configured and stopped. Each has a module that implements
:class:`services.renderer.proxy.Proxy`; the rest is the same for all.
"""
