"""Decisions: plain values in, a value out. No await, clock, random, log or I/O; imports layer 0
alone.
"""
