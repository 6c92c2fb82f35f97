"""Are the topics there, do they take what is sent, keep it long enough, and allow it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kfd.acls import CLUSTER, OPTIONAL, grants
from kfd.config import Config
from kfd.control.examination import Check, Grant, Resource
from kfd.errors import KfdError
from kfd.examination.checks import doubtful, failed, skipped, well, wrong
from kfd.kafka import ClusterView, Topic, TopicRefusedError
from kfd.topicfaults import compaction, create_command, short_retention, small_records


def look_at_topics(config: Config, cluster: ClusterView, servers: str) -> Iterator[Check]:
    """Each topic of a route."""
    names = _topics(config)
    if not names:
        yield skipped("topics", "no route is configured")
        return
    try:
        found = cluster.topics(names)
    except KfdError as error:
        yield skipped("topics", f"the brokers don't show them: {error}")
        return
    for name in names:
        answer = found[name]
        if answer is None:
            yield _missing(config, name, servers)
        else:
            yield from _topic(config, cluster, name, answer)


def _topics(config: Config) -> list[str]:
    names = [route.topic for route in config.uploads.values()]
    names += [route.topic for route in config.downloads.values()]
    return list(dict.fromkeys(names))


def _topic(
    config: Config, cluster: ClusterView, name: str, found: Topic | TopicRefusedError
) -> Iterator[Check]:
    check = f"topic {name}"
    if isinstance(found, TopicRefusedError):
        yield failed(check, found)
    else:
        yield from _limits(config, cluster, check, found)


def _missing(config: Config, name: str, servers: str) -> Check:
    check = f"topic {name}"
    command = create_command(name, servers)
    if config.create_topics:
        return doubtful(check, "does not exist; kfd makes it where it may", command)
    return wrong(check, "does not exist", f"create_topics: true, or {command}")


def _limits(config: Config, cluster: ClusterView, check: str, found: Topic) -> Iterator[Check]:
    try:
        topic = cluster.limits(found)
    except KfdError as error:
        yield skipped(check, f"its settings are not shown: {error}")
        return
    sends = any(route.topic == topic.name for route in config.uploads.values())
    readers = [route for route in config.downloads.values() if route.topic == topic.name]
    least = max((2 * route.incomplete_timeout for route in readers), default=0.0)
    faults = [
        compaction(topic),
        small_records(topic, config.chunk_size) if sends else None,
    ]
    for fault in faults:
        if fault is not None:
            yield wrong(check, _without_name(topic, fault), fault.fix)
    short = short_retention(topic, least)
    if short is not None:
        yield doubtful(check, _without_name(topic, short), short.fix)
    if topic.max_record is None:
        yield skipped(check, "its limits are not known: kfd may not describe its configuration")
    elif short is None and not any(faults):
        yield well(check, f"{topic.partitions} partitions, {topic.max_record} bytes a record")


def _without_name(topic: Topic, fault: KfdError) -> str:
    """The check is called after the topic."""
    return str(fault).removeprefix("topic ").removeprefix(f"{topic.name} ")


def look_at_rights(config: Config, cluster: ClusterView, servers: str, who: str) -> Iterator[Check]:
    """What kfd may do, as the brokers say it of each topic; and what they don't say."""
    wanted = [one for one in grants(config) if one.resource is Resource.TOPIC]
    groups = [one.name for one in grants(config) if one.resource is Resource.GROUP]
    try:
        rights = cluster.rights([one.name for one in wanted])
    except KfdError as error:
        yield skipped("rights", f"the brokers don't show them: {error}")
        return
    for one in wanted:
        yield _granted(one, rights.get(one.name), servers, who)
    if groups:
        yield skipped(
            "rights on groups",
            f"brokers don't say what is allowed on {', '.join(groups)}; kfdctl status says so if"
            " they refuse",
        )


def _granted(wanted: Grant, allowed: frozenset[str] | None, servers: str, who: str) -> Check:
    check = f"rights on {wanted.name}"
    if allowed is None:
        return skipped(check, "it doesn't exist, or its rights are not shown")
    missing = [one for one in wanted.operations if _constant(one) not in allowed]
    missing = [one for one in missing if one != "Create"]  # it is there
    if not missing:
        return well(check, ", ".join(wanted.operations))
    made = doubtful if OPTIONAL.issuperset(missing) else wrong
    grant = Grant(wanted.resource, wanted.name, missing, wanted.why)
    return made(check, f"not granted: {', '.join(missing)}", command(grant, servers, who))


def _constant(operation: str) -> str:
    """``DescribeConfigs`` → ``DESCRIBE_CONFIGS``."""
    return "".join(f"_{c}" if c.isupper() else c.upper() for c in operation).lstrip("_")


def command(grant: Grant, servers: str, principal: str) -> str:
    """What an administrator types to grant this."""
    operations = " ".join(f"--operation {one}" for one in grant.operations)
    on = "--cluster" if grant.name == CLUSTER else f"--{grant.resource.value} {grant.name}"
    return (
        f"kafka-acls.sh --bootstrap-server {servers} --add --allow-principal {principal}"
        f" {operations} {on}"
    )


def commands(all_grants: Sequence[Grant], servers: str, principal: str) -> list[str]:
    """What an administrator types to grant all."""
    return [command(one, servers, principal) for one in all_grants]
