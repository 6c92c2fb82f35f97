"""What people do to what couldn't be published: it is looked at, released, or removed.

``keeper`` is the thread that does it, and keeps what is held within its bounds; ``release`` gives
content its name. How content comes into quarantine is in ``kfd.daemon.publishing.holding``.
"""
