"""Bytes on disk: finished videos, downloads under way, input images that wait.

Owns paths and fsyncs; everybody else names content by its key (a job's id) or its SHA-256. Knows
nothing of jobs' states.
"""
