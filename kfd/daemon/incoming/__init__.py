"""The receiving half: everything between Kafka and a partial that is complete.

``downloads`` holds it together. A ``consumer`` leads its client (``fetching``, ``membership``,
``ownership``) and its ``receiver``, which keeps account of what was read (``reading``,
``partition``), puts each record where it belongs (``acceptance``) and ends transfers
(``outcomes``). What can't be used is counted (``drops``, ``badrecords``), what doesn't fit now is
read again (``deferral``, ``space``, ``spoiled``), and what a restart needs is kept (``checkpoint``,
``commits``, ``restoring``).
"""
