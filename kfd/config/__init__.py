"""The configuration: read it with :func:`load`, see :class:`Config` for what it holds.

Importing this costs pydantic; ``kfdctl`` does so only in the verbs that need it.
"""

from kfd.config.loading import from_flags, from_values, in_order, load, show
from kfd.config.model import Config, Download, Pools, Queue, Upload

__all__ = [
    "Config",
    "Download",
    "Pools",
    "Queue",
    "Upload",
    "from_flags",
    "from_values",
    "in_order",
    "load",
    "show",
]
