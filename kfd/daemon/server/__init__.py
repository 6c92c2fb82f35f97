"""The control socket: ``socketfile`` makes it, ``server`` accepts, a ``connection`` is a thread
with its ``channel`` of frames and descriptors, ``pacing`` shares processor time among users.
"""
