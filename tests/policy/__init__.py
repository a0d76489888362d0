"""Tests of the decisions: plain values in, a value out."""
