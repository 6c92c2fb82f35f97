"""Looks at what kfd needs outside itself, made by ``kfdctl doctor`` and by the daemon for it.

None of them changes anything, or disturbs the data: they ask brokers what they show anybody, and
connect to them. Each gives :class:`kfd.control.examination.Check` values.
"""
