"""Errors on their way over the control socket: the daemon's KfdError is raised again in kfdctl."""

from __future__ import annotations

from kfd import control
from kfd.control import INTERFACE
from kfd.errors import (
    ConfigError,
    ExitCode,
    KfdError,
    NoSuchTransferError,
    NotPermittedError,
    all_of,
)
from kfd.marshal import MismatchError, from_json, to_json
from kfd.varlink import SERVICE, VarlinkError

_LOG = "its log says more: journalctl"
_VERSIONS = "kfdctl version shows whether kfd and kfdctl are of one version; restart the older one"


def to_varlink(error: KfdError) -> VarlinkError:
    """The error reply that says what ``error`` says."""
    fields = _fields(error)
    return VarlinkError(f"{INTERFACE}.{type(fields).__name__}", to_json(fields))


Fields = (
    control.NotPermitted | control.NoSuchTransfer | control.Refused | control.WrongConfiguration
)


def _fields(error: KfdError) -> Fields:
    if isinstance(error, ConfigError):
        faults = [control.Fault(one.where, one.what, one.fix) for one in error.faults]
        return control.WrongConfiguration(faults, int(error.exit_code))
    if isinstance(error, NotPermittedError):
        return control.NotPermitted(str(error), error.fix)
    if isinstance(error, NoSuchTransferError):
        return control.NoSuchTransfer(str(error), error.fix)
    return control.Refused(str(error), error.fix, int(error.exit_code))


def from_varlink(error: VarlinkError) -> KfdError:
    """What kfdctl raises for an error reply, whoever sent it."""
    interface, _, name = error.name.rpartition(".")
    if interface == SERVICE:
        return _not_understood(error)
    if interface != INTERFACE or name not in control.ERRORS:
        return KfdError(f"the daemon answered {error.name}", fix=_VERSIONS)
    try:
        fields = from_json(control.ERRORS[name], error.parameters, strict=False)
    except MismatchError as mismatch:
        return KfdError(f"the daemon answered {error.name} ({mismatch})", fix=_VERSIONS)
    return _raised(fields)


def _raised(fields: Fields) -> KfdError:
    if isinstance(fields, control.WrongConfiguration):
        return _wrong(fields)
    if isinstance(fields, control.NotPermitted):
        return NotPermittedError(fields.text, fix=fields.fix)
    if isinstance(fields, control.NoSuchTransfer):
        return NoSuchTransferError(fields.text, fix=fields.fix)
    return _with_code(KfdError(fields.text, fix=fields.fix), fields.exit_code)


def _wrong(fields: control.WrongConfiguration) -> KfdError:
    faults = [ConfigError(one.text, where=one.place, fix=one.fix) for one in fields.faults]
    return _with_code(all_of(faults or [ConfigError("refused", fix=_LOG)]), fields.exit_code)


def _with_code(error: KfdError, exit_code: int) -> KfdError:
    if exit_code in set(ExitCode):
        error.exit_code = ExitCode(exit_code)
    return error


def _not_understood(error: VarlinkError) -> KfdError:
    details = ", ".join(str(value) for value in error.parameters.values())
    return KfdError(
        f"the daemon does not understand this request ({error.name.rpartition('.')[2]}: {details})",
        fix=_VERSIONS,
    )


def not_permitted(user: str, socket: str, group: str | None) -> NotPermittedError:
    """The refusal of someone who is not in the control group; no group: only root may help."""
    fix = (
        f"sudo usermod -aG {group} {user}, then log in again"
        if group is not None
        else "use sudo; or name an existing group as control_group and restart kfd"
    )
    return NotPermittedError(f"{user} may not use {socket}", fix=fix)
