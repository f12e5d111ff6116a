"""The command line, with one module for each command. Heavy imports stay inside the commands."""
