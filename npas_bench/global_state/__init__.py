"""What all code of a process shares: switches of torch, Python and the process, and functions that can be replaced.

A plugin that changes any of it would change the results of other methods' cells that follow in the same process.
"""
