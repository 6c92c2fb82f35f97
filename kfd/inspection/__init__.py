"""What lies on a topic, and the chunks that a file would have: for ``kfdctl inspect``.

Values in, values out, but for ``reading.py``, which is Kafka's client. Needs no daemon.
"""
