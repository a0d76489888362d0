"""Tests of the durable truth, on real files and real threads."""
