"""``lab bench since REV``: two checkouts measured alternately, each driven from outside by its own commands.

Here belongs what this comparison needs: how the other checkout is made, what is measured, and which commit's figures
are accepted. The verdicts are computed in :mod:`lab.plugins.bench.since.revisions`.
"""
