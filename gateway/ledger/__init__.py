"""The durable truth: jobs, calls, accounts, callers and their keys, and what happened to them.

Owns every line of SQL and the folder's database file. Never talks to upstream, never decides what
comes next.
"""
