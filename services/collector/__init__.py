"""Keeps the spans of a lab's latest requests, for ``lab trace``.

Here belongs what receives OTLP and what it stores. How units make spans lives in ``lab.transport.spans``.
"""
