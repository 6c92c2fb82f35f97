"""What senders are told, and what they make of it.

``sender`` empties the receivers' outbox into Kafka; on the other side ``reader`` reads,
``inbox`` keeps, ``confirmations`` concludes, ``resender`` has sent again what wasn't received.
"""
