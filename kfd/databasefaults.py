"""What is wrong with a database's address as far as this host can tell: nobody is connected to."""

from __future__ import annotations

from collections.abc import Iterator

from kfd.config import Config
from kfd.config.catalogues import DatabaseUrl, SqlCatalogue
from kfd.errors import ConfigError, KfdError


def database_faults(config: Config) -> Iterator[KfdError]:
    """Catalogues whose driver isn't here, or isn't one. None where SQLAlchemy isn't installed."""
    for name, settings in config.catalogue.items():
        if isinstance(settings, SqlCatalogue):
            yield from _faults(config, name, settings.url)


def how_to_install(url: DatabaseUrl) -> str:
    """How to get what an address needs."""
    if url.driver.startswith("postgresql"):
        return "write postgresql+psycopg://..., and: pip install 'kfd[sql]'"
    return f"install the driver of {url.driver}: see SQLAlchemy's list of dialects"


def _faults(config: Config, name: str, url: DatabaseUrl) -> Iterator[KfdError]:
    try:
        import sqlalchemy as sa  # noqa: PLC0415 - an extra, and slow to load
    except ImportError:
        return
    what, fix = "", how_to_install(url)
    try:
        dialect = sa.make_url(url.text).get_dialect()
        if dialect.is_async:
            what, fix = "an asynchronous driver, which kfd doesn't use", "name another before ://"
        else:
            dialect.import_dbapi()
    except Exception as error:  # noqa: BLE001 - a dialect may raise what it likes
        what = url.hide(" ".join(str(error).split())) or type(error).__name__
    if what:
        where = config.where("catalogue", name, "url")
        yield ConfigError(f"catalogue.{name}.url: {url.driver}: {what}", where=where, fix=fix)
