"""Results as JSON lines, which carry them from one results database to another."""
