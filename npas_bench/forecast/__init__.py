"""Forecasts of what runs take, learned from finished runs."""
