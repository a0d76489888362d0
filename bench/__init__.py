"""Measurements, each one command; figures and dates are in docs/performance.md."""
