"""Directories that lie in one another through links: the names alone don't show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.config import Config, load
from kfd.config.apart import check_apart
from kfd.errors import ConfigError


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """``real/a/b``, and ``link``, which leads to ``real/a``."""
    (tmp_path / "real" / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
    (tmp_path / "other").mkdir()
    return tmp_path


def config(places: Path, uploads: str, downloads: str = "{}") -> Config:
    """``@`` stands for the place of the directories."""
    text = (
        f"kafka: {{bootstrap.servers: localhost}}\nuploads:\n{uploads}downloads:\n  {downloads}\n"
    )
    file = places / "kfd.yaml"
    file.write_text(text.replace("@", str(places)))
    return load(file)


def refused(given: Config) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check_apart(given)
    return caught.value


@pytest.mark.parametrize("target", ["@/link/b", "@/link", "@/link/not/yet/there"])
def test_files_are_not_moved_into_their_own_route(places: Path, target: str) -> None:
    """They would be found again, and sent once more."""
    route = f"  one: {{directory: @/real, topic: t, then: {{move: {target}}}}}\n"
    error = refused(config(places, route))
    moved_to = target.replace("@", str(places))
    assert error.what == (
        f"uploads.one.then lies in uploads.one.directory: {moved_to} in {places}/real"
    )
    assert error.where.endswith("kfd.yaml:3")
    assert error.fix == "move files to a directory apart from those of all routes"


@pytest.mark.parametrize(
    ("other", "downloads"),
    [
        ("  two: {directory: @/real/a, topic: t}\n", "{}"),
        ("", "in: {directory: @/real/a, topic: t}"),
    ],
    ids=["upload", "download"],
)
@pytest.mark.parametrize("target", ["@/link", "@/link/b", "@/link/.."])
def test_files_are_not_moved_into_or_around_another_route(
    places: Path, target: str, other: str, downloads: str
) -> None:
    if target.endswith(".."):  # around it: real, by a name that leads through the link
        (places / "around").symlink_to(places / "real")
        target = "@/around"
    route = f"  one: {{directory: @/other, topic: t, then: {{move: {target}}}}}\n"
    error = refused(config(places, other + route, downloads))
    assert "uploads.one.then" in error.what
    assert error.fix == "move files to a directory apart from those of all routes"


@pytest.mark.parametrize("disposing", ["one", "two"])
def test_files_of_two_routes_are_not_deleted(places: Path, disposing: str) -> None:
    """The other may not have sent them yet."""
    routes = {"one": "@/real", "two": "@/link/b"}
    text = "".join(
        f"  {name}: {{directory: {path}, topic: {name},"
        f" then: {'delete' if name == disposing else 'keep'}}}\n"
        for name, path in routes.items()
    )
    error = refused(config(places, text))
    assert error.what.startswith("uploads.two.directory lies in uploads.one.directory")
    assert error.fix.startswith("write then: keep")


def test_what_does_no_harm_is_allowed(places: Path) -> None:
    """Two routes read the same files and keep them; two others move theirs to one place."""
    (places / "done").mkdir()
    (places / "third").mkdir()
    (places / "same").symlink_to(places / "done")
    routes = (
        "  one: {directory: @/real, topic: t}\n"
        "  two: {directory: @/link, topic: u}\n"
        "  three: {directory: @/other, topic: t, then: {move: @/done}}\n"
        "  four: {directory: @/third, topic: t, then: {move: @/same/four}}\n"
    )
    check_apart(config(places, routes, "in: {directory: @/data, topic: t}"))


def test_downloads_are_apart_from_all(places: Path) -> None:
    error = refused(config(places, "  {}\n", "{a: {directory: @/real, topic: t},"
                           " b: {directory: @/link, topic: u}}"))  # fmt: skip
    assert error.what.startswith("downloads.b.directory lies in downloads.a.directory")
