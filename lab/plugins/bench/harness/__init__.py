"""What every bench is built from: the lab it runs in, variants, rounds, drivers, yardsticks and results.

Here belongs code that several benches share. A bench itself is one file in ``lab.plugins.bench.suites``.
"""
