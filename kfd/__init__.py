"""kfd moves files through Apache Kafka: whole, verified, once, and fast."""

__version__ = "0.1.0"
