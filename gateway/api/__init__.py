"""The callers' HTTP: what they may ask, in OpenAI's shapes.

Writes accepted jobs into the ledger and answers from ledger and content alone. Never talks to
upstream, never imports the engine.
"""
