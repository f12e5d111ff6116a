"""Benchmark suite and leaderboard for Neural Parameter Allocation Search."""

__version__ = "0.1.0"
