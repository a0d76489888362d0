"""What makes jobs move: one loop an account, the calls that it starts, recovery and housekeeping.

Decides nothing by itself (that is `policy`) and keeps nothing (that is the ledger).
"""
