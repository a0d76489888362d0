"""The whole gateway on virtual time, against an upstream that misbehaves by seed.

Real: the engine, the ledger and its SQLite file, the stores of content, the API. Simulated: time
(`loop`), the machine and its disk (`machine`), upstream and the network (`upstream`, `faults`), the
callers (`callers`). `world` puts them together and lets it all happen; `oracles` judge it by
upstream's record and by what callers were told, never by what the gateway says of itself.

    python -m tests.simulation --hours 3 --seeds 100
"""
