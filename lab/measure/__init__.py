"""What times add up to: histograms, intervals, comparisons. Pure functions and values; numbers in, numbers out.

Where the times come from, and what is a good or a bad one, is for others to say.
"""
