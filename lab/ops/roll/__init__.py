"""Progressive rollout: shifts a model's traffic to another version in steps, judges each step, rolls back if it is bad.

Load and publishing are passed in, so that this package holds the decisions alone: tables, judgements, when to stop.
"""
