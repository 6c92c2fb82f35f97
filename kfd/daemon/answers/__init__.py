"""What the daemon answers at its control socket: the operations, by family, over its parts.

They run in the control server's threads, and change nothing but through the parts' own means.
"""

from __future__ import annotations

from collections.abc import Callable

from kfd.daemon.admission.admission import Admission
from kfd.daemon.admission.spool import Spool
from kfd.daemon.answers.catalogue import CatalogueAnswers
from kfd.daemon.answers.events import EventAnswers
from kfd.daemon.answers.measurements import Measurements
from kfd.daemon.answers.quarantine import QuarantineAnswers
from kfd.daemon.answers.reloading import ReloadingAnswers
from kfd.daemon.answers.routes import RouteAnswers
from kfd.daemon.answers.sending import SendingAnswers
from kfd.daemon.answers.service import ServiceAnswers
from kfd.daemon.answers.status import StatusReport
from kfd.daemon.answers.transfers import TransferAnswers
from kfd.daemon.backup import Backups
from kfd.daemon.catalogue.catalogues import Catalogues
from kfd.daemon.context import Context
from kfd.daemon.doctor import Doctor
from kfd.daemon.incoming.downloads import Downloads
from kfd.daemon.operations import Operations
from kfd.daemon.outgoing.uploads import Uploads
from kfd.daemon.quarantine.keeper import Keeper
from kfd.daemon.reload import Reloader


def make_operations(
    context: Context,
    uploads: Uploads,
    downloads: Downloads,
    spool: Spool,
    keeper: Keeper,
    catalogues: Catalogues,
    reloader: Reloader,
    doctor: Doctor,
    report: StatusReport,
    measurements: Measurements,
    backups: Backups,
    request_stop: Callable[[], None],
) -> Operations:
    """All that the control server may ask of a daemon of these parts."""
    ledger = context.ledger
    service = ServiceAnswers(context, uploads, report, measurements, backups, request_stop)
    admission = Admission(uploads, context.topics, ledger, spool)
    return Operations(
        sending=SendingAnswers(admission, context.life),
        transfers=TransferAnswers(context, uploads, downloads),
        events=EventAnswers(ledger, downloads),
        routes=RouteAnswers(context, uploads, downloads),
        quarantine=QuarantineAnswers(ledger, downloads, keeper),
        catalogue=CatalogueAnswers(ledger, catalogues),
        service=service,
        reloading=ReloadingAnswers(reloader),
        examining=doctor,
    )
