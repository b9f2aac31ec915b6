"""Benches: claims about cost, each measured against its yardstick in the same run, in interleaved rounds.

One module a bench and an entry in ``catalogue``. Statistics live in ``lab.measure``. Machines are shared and noisy, so
a claim is a ratio within one run, with its interval.
"""
