"""An endpoint picker behind one central Envoy: who picks, by which policy, and whether the pick was served.

Here belongs what speaks the endpoint picker protocol of Kubernetes' Gateway API inference extension. The policies are
those of ``lab.pickers``.
"""
