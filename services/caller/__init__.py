"""Services that call models to do their own work, such as building a page.

Here belongs what a caller's process does. How a request reaches a model lives in ``lab.client``.
"""
