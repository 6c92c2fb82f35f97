"""The daemon: threads, sockets, files and Kafka around the pure core in ``kfd``."""
