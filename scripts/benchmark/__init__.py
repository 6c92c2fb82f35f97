"""The benchmark of ``scripts/bench``: kfd beside its limit and its peer, on one broker.

``works`` says what is measured; ``daemon`` (kfd), ``plain`` (bare librdkafka loops, the limit) and
``peer`` (openmsistream) do it; ``results`` keeps it, ``report``, ``plot`` and ``compare`` show it.
"""
