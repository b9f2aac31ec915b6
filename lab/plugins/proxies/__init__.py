"""NGINX, HAProxy, Traefik and Caddy, each in the place of the central Envoy that routes on the header.

A file each runs and configures one of them; their roles and topologies are values of two files that import little, as
callers load these, too.
"""
