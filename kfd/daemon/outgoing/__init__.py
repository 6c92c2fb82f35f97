"""The sending half: everything between a file that has settled and ``in_kafka``.

``uploads`` holds it together; ``findings`` takes over what watchers found; ``feed`` deals out turns
(``lanes``, ``placement``), ``producer`` reads (``sending``) and produces within a ``budget``,
``deliveries`` hears what Kafka acknowledged; ``resume`` says how an interrupted transfer goes on,
``interventions`` what people do to one.
"""
