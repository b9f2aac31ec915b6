"""What a result file of another load generator shows: was the load open, and is the wait before sending in the latency?

Here belong readers of foreign formats, one file each. Runs of the lab itself are judged by ``lab.checkers``.
"""
