"""The vocabulary of the control socket: the types of interface ``io.kfd.Control``, by family.

Each class is a type of ``io.kfd.Control.varlink`` (or the parameters of one of its methods
or errors) with the same fields in the same order; a test holds the two against one another.
``kfd.marshal`` turns them into JSON and back, ``kfd.varlink`` frames them. Times are seconds
since the epoch, sizes are bytes, names of files are escaped text.
"""

from __future__ import annotations

from collections.abc import Mapping

from kfd.control import (
    catalogue,
    events,
    examination,
    quarantine,
    reloading,
    routes,
    sending,
    service,
    transfers,
)
from kfd.control.errors import (
    ERRORS,
    Fault,
    NoSuchTransfer,
    NotPermitted,
    Refused,
    WrongConfiguration,
)
from kfd.control.routes import (
    DownloadRoute,
    UploadRoute,
)
from kfd.control.sending import (
    MAX_DESCRIPTORS,
    MAX_META,
    File,
    SendParameters,
    SendReply,
    Sent,
    name_bytes,
    name_fields,
)
from kfd.control.service import (
    DaemonState,
    GetStatusParameters,
    GetStatusReply,
    Held,
    Problem,
    QuitParameters,
    QuitReply,
    Status,
)
from kfd.control.transfers import (
    MAX_CONDITIONS,
    MAX_LISTED,
    Direction,
    ListParameters,
    ListReply,
    State,
    Transfer,
    Until,
    WaitParameters,
    WaitReply,
)

__all__ = [
    "ERRORS",
    "INTERFACE",
    "MAX_CONDITIONS",
    "MAX_DESCRIPTORS",
    "MAX_LISTED",
    "MAX_META",
    "METHODS",
    "DaemonState",
    "Direction",
    "DownloadRoute",
    "Fault",
    "File",
    "GetStatusParameters",
    "GetStatusReply",
    "Held",
    "ListParameters",
    "ListReply",
    "NoSuchTransfer",
    "NotPermitted",
    "Problem",
    "QuitParameters",
    "QuitReply",
    "Refused",
    "SendParameters",
    "SendReply",
    "Sent",
    "State",
    "Status",
    "Transfer",
    "Until",
    "UploadRoute",
    "WaitParameters",
    "WaitReply",
    "WrongConfiguration",
    "name_bytes",
    "name_fields",
]

INTERFACE = "io.kfd.Control"
METHODS: Mapping[str, tuple[type, type]] = {
    **sending.METHODS,
    **transfers.METHODS,
    **events.METHODS,
    **routes.METHODS,
    **catalogue.METHODS,
    **quarantine.METHODS,
    **service.METHODS,
    **reloading.METHODS,
    **examination.METHODS,
}
"""Method: the types of its parameters and of its reply."""
