"""Statistics of measurements: histograms, intervals, comparisons. Pure functions and values; numbers in, numbers out.

Here belongs arithmetic on samples. Measuring is in ``lab.load`` and ``lab.plugins.bench``, judging in ``lab.checkers``.
"""
