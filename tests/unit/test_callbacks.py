"""What is raised in a callback of Kafka's client, which has its own idea of exceptions."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from kfd.kafka import raising


def poll(consumer: Consumer, heard: list[KafkaError]) -> None:
    """Until something was heard, at most 20 seconds."""
    for _ in range(200):
        consumer.poll(0.1)
        if heard:
            return


def test_error_of_a_call_within_a_callback_can_be_caught() -> None:
    heard: list[KafkaError] = []

    @raising
    def on_error(error: KafkaError) -> None:
        heard.append(error)
        if len(heard) == 1:
            consumer.get_watermark_offsets(TopicPartition("topic", 0), 0.05)  # fails

    consumer = Consumer(
        {
            "bootstrap.servers": "127.0.0.1:1",
            "group.id": "group",
            "error_cb": on_error,
            "log_level": 0,
        }
    )
    with pytest.raises(KafkaException):
        poll(consumer, heard)
    consumer.close()
