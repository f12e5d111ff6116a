"""Checks that results hold: runs that are repeated, and compared with what they gave before."""
