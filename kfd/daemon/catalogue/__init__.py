"""The catalogue: rows about files, from the ledger's outbox into databases elsewhere.

Nobody in the data's way waits for it. What a sink is: :mod:`kfd.daemon.catalogue.sink`.
"""
