"""Conformance suites and small architectures, for the tests of plugin authors and of this package."""
