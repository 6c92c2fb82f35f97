"""What Prometheus is told: the numbers of ``status`` and of the ledger, counted nowhere twice."""
