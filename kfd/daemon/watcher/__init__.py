"""The watcher: what settles in an upload route's directory, found by inotify, scans or polling.

``watcher`` is the stage; ``signs`` brings it what the kernel and other threads tell; ``inotify``
watches directories, ``sweep`` walks them, ``scans`` says when; ``intake`` decides about each file,
by its :class:`Selection` and by ``candidates``, those that must stand still first; ``root`` and
``mounts`` know whether the directory is there at all; ``tally`` counts what is passed over.
"""

from kfd.daemon.watcher.watcher import Watcher

__all__ = ["Watcher"]
