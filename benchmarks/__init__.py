"""The long benchmark and the short one of continuous integration: `python -m benchmarks`. Not installed."""
