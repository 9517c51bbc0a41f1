"""The commands that put the daemon into a Kubernetes cluster, and take it out again."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pachctl.terminal.command import Arguments, Command, UsageError, not_negative, port
from pachctl.terminal.output import confirm, remark
from pfsd.errors import InvalidError
from pfsdeploy import flavours
from pfsdeploy.settings import IMAGE, PORT, Settings

if TYPE_CHECKING:
    from pfsdeploy.cluster import Cluster

OPERANDS = {
    "local": (),
    "custom": None,
    "amazon": ("BUCKET", "ID", "SECRET", "TOKEN", "REGION", "SIZE"),
    "google": ("BUCKET", "SIZE"),
    "microsoft": ("CONTAINER", "ACCOUNT", "KEY", "SIZE"),
}
"""What each kind of deployment is given; of a custom one, its options decide."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKMGT]?)(i?)")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kKMGTPE]i?)?")


def deploy(arguments: Arguments) -> int:
    """Deploys, or prints the manifest."""
    if arguments.dashboard_only:
        raise InvalidError("the dashboard is not part of pfsd: there is nothing that --dashboard-only could deploy")
    place = _place(arguments)
    _check_quantities(arguments)
    for sentence in (*place.remarks, *_without_meaning(arguments, place)):
        remark(sentence)
    if arguments.output and not arguments.dry_run:
        raise UsageError("-o is for the manifest that --dry-run prints")
    return _print_manifest(arguments, place) if arguments.dry_run else _apply(arguments, place)


def undeploy(arguments: Arguments) -> int:
    """Removes a deployment."""
    from pfsdeploy.cluster import connect
    from pfsdeploy.removal import remove

    cluster = connect(arguments.namespace)
    cluster.require_namespace()
    if arguments.all and not confirm(
        f"This removes the persistent volume of the deployment in the namespace {cluster.namespace} at {cluster.host} "
        "too: repos, commits, pipelines and jobs can't be restored if the cluster made the volume. "
        "Are you sure? yN"
    ):
        remark("nothing was removed")
        return 1
    count = 0
    for name in remove(cluster, data=arguments.all):
        print(f"{name} deleted", flush=True)
        count += 1
    if not count:
        remark(f"nothing of pfsd is deployed in the namespace {cluster.namespace}")
    elif arguments.all:
        remark("what lies in a directory of a node, on a volume that was named, or in an object store is left there")
    else:
        remark("the persistent volume stays: deploy again to find everything, or undeploy --all to remove it too")
    return 0


def _print_manifest(arguments: Arguments, place: flavours.Place) -> int:
    from pfsdeploy.cluster import default_namespace
    from pfsdeploy.manifest import as_json, as_yaml, objects

    settings = _settings(arguments, place, arguments.namespace or default_namespace())
    found = objects(settings)
    print(as_yaml(found) if arguments.output == "yaml" else as_json(found))
    return 0


def _apply(arguments: Arguments, place: flavours.Place) -> int:
    from pfsdeploy.cluster import KINDS, connect
    from pfsdeploy.manifest import objects

    cluster = connect(arguments.namespace)
    wanted = objects(_settings(arguments, place, cluster.namespace))
    cluster.require_namespace()
    for one in wanted:  # all of it or nothing: the cluster is asked first whether it would take it
        _try(cluster, one)
    for one in wanted:
        outcome = cluster.apply(one)
        print(f"{KINDS[one['kind']].plural.removesuffix('s')}/{one['metadata']['name']} {outcome}", flush=True)
    remark("pfsd is starting; 'pachctl port-forward &' connects to it once its pod is ready (kubectl get pods)")
    return 0


def _try(cluster: Cluster, wanted: dict[str, Any]) -> None:
    try:
        cluster.apply(wanted, dry_run=True)
    except InvalidError as error:
        if wanted["kind"].startswith("PersistentVolume") and cluster.get(wanted["kind"], wanted["metadata"]["name"]):
            raise InvalidError(
                f"{error}: a deployment keeps its volume, and pachctl undeploy --all gives it up"
            ) from error
        raise


def _settings(arguments: Arguments, place: flavours.Place, namespace: str) -> Settings:
    cache = str(_bytes(arguments.block_cache_size)) if arguments.block_cache_size and place.store.url else ""
    return Settings(
        namespace=namespace,
        volume=place.volume,
        store=place.store,
        image=arguments.image or (f"{IMAGE.partition(':')[0]}:local" if arguments.dev else IMAGE),
        cache_size=cache,
        cpu_request=arguments.pachd_cpu_request,
        memory_request=arguments.pachd_memory_request,
        verbose=arguments.log_level != "error",
        node_port=arguments.node_port,
    )


def _place(arguments: Arguments) -> flavours.Place:
    kind, *rest = arguments.operands
    if kind not in OPERANDS:
        raise UsageError(f"there is no deployment {kind!r}: write one of {', '.join(OPERANDS)}")
    _check_options(kind, arguments)
    etcd = flavours.EtcdOptions(arguments.static_etcd_volume, arguments.dynamic_etcd_nodes, arguments.storage_class)
    key = flavours.HmacKey(arguments.hmac_id, arguments.hmac_secret)
    names = OPERANDS[kind]
    if names is None:
        disk, store = arguments.persistent_disk or "aws", arguments.object_store or "s3"
        return flavours.custom(disk, store, rest, key, etcd, secure=arguments.secure)
    if len(rest) != len(names):
        wanted = f"takes {len(names)} arguments, {' '.join(names)}," if names else "takes no arguments"
        raise UsageError(f"deploy {kind} {wanted} and got {len(rest)}; see pachctl deploy --help")
    if kind == "amazon":
        bucket, id, secret, token, region, size = rest
        return flavours.amazon(bucket, id, secret, token, region, size, etcd)
    if kind == "google":
        bucket, size = rest
        return flavours.google(bucket, size, key, etcd)
    if kind == "microsoft":
        container, account, secret, size = rest
        return flavours.microsoft(container, account, secret, size, etcd)
    return flavours.local(arguments.host_path or flavours.HOST_PATH, etcd)


def _check_options(kind: str, arguments: Arguments) -> None:
    """Raise UsageError for an option that belongs to another kind of deployment."""
    belonging = (
        ("--host-path", arguments.host_path, ("local",)),
        ("--dev", arguments.dev, ("local",)),
        ("--persistent-disk", arguments.persistent_disk, ("custom",)),
        ("--object-store", arguments.object_store, ("custom",)),
        ("--secure", arguments.secure, ("custom",)),
        ("--hmac-id", arguments.hmac_id, ("google", "custom")),
        ("--hmac-secret", arguments.hmac_secret, ("google", "custom")),
    )
    for option, given, kinds in belonging:
        if given and kind not in kinds:
            raise UsageError(f"{option} is for deploy {' and '.join(kinds)}, not for deploy {kind}")


def _check_quantities(arguments: Arguments) -> None:
    for option, text in (
        ("--pachd-cpu-request", arguments.pachd_cpu_request),
        ("--pachd-memory-request", arguments.pachd_memory_request),
    ):
        if text and not _QUANTITY.fullmatch(text):
            raise InvalidError(
                f"{option}: {text!r} is not a quantity, such as 500m or 2 of CPUs and 512M or 2Gi of bytes"
            )
    if arguments.block_cache_size:
        _bytes(arguments.block_cache_size)


def _bytes(size: str) -> int:
    """Bytes of a size as Kubernetes writes them: 5G is 5 * 10**9, 5Gi is 5 * 2**30."""
    found = _SIZE.fullmatch(size)
    if found is None:
        raise InvalidError(f"--block-cache-size: {size!r} is not a size, such as 512M or 20Gi")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** ("kmgt".index(unit.lower()) + 1 if unit else 0))


def _without_meaning(arguments: Arguments, place: flavours.Place) -> Iterator[str]:
    """Sentences on the options of 1.5 that are accepted and change nothing."""
    if arguments.dashboard or arguments.dash_image:
        yield "the dashboard is not part of pfsd: nothing is deployed for --dashboard and --dash-image"
    for option, given in (
        ("--etcd-cpu-request", arguments.etcd_cpu_request),
        ("--etcd-memory-request", arguments.etcd_memory_request),
    ):
        if given:
            yield f"{option} has no meaning: there is no etcd, and --pachd-{option[7:]} is the daemon's"
    if arguments.shards is not None:
        yield "--shards has no meaning: one daemon serves a root"
    if arguments.block_cache_size and not place.store.url:
        yield "--block-cache-size has no meaning: packs on the volume need no block cache"
    if arguments.log_level == "debug":
        yield "--log-level debug is the same as info, the most that pfsd logs"


def _deploy_options(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_argument_group("of one kind of deployment")
    kinds.add_argument(
        "--host-path",
        metavar="DIR",
        default="",
        help=f"local: where the node keeps it all (default {flavours.HOST_PATH})",
    )
    kinds.add_argument(
        "-d", "--dev", action="store_true", help="local: the image pfsd/pfsd:local in place of this version's"
    )
    kinds.add_argument(
        "--persistent-disk",
        choices=tuple(flavours.DISKS),
        help="custom: what VOLUME is; host is a directory of the node (default aws)",
    )
    kinds.add_argument(
        "--object-store", choices=tuple(flavours.STORES), help="custom: the store that takes packs (default s3)"
    )
    kinds.add_argument("-s", "--secure", action="store_true", help="custom: speak TLS with an ENDPOINT without scheme")
    kinds.add_argument("--hmac-id", metavar="ID", default="", help="google: the HMAC key with which packs go to BUCKET")
    kinds.add_argument("--hmac-secret", metavar="SECRET", default="", help="google: the key's secret")
    _volume_options(parser)
    _manifest_options(parser)
    _accepted_options(parser)


def _volume_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--static-etcd-volume",
        metavar="VOLUME",
        default="",
        help="the volume that holds the daemon's metadata (there is no etcd)",
    )
    parser.add_argument(
        "--dynamic-etcd-nodes",
        type=not_negative,
        metavar="N",
        default=0,
        help="let the cluster make that volume; it makes one, whatever N is",
    )
    parser.add_argument("--storage-class", metavar="NAME", default="", help="class of a volume that the cluster makes")


def _manifest_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="print the manifest, with the credentials, and do nothing"
    )
    parser.add_argument("-o", "--output", choices=("json", "yaml"), help="the manifest's form (default json)")
    _namespace_option(parser)
    parser.add_argument("--image", metavar="IMAGE", default="", help=f"the daemon's and the workers' (default {IMAGE})")
    parser.add_argument(
        "--node-port",
        type=port,
        metavar="PORT",
        default=PORT,
        help="the port of every node that leads to the daemon, 0 for none (default %(default)s)",
    )
    parser.add_argument(
        "--block-cache-size", metavar="SIZE", default="", help="how much of the store's packs the node's disk keeps"
    )
    parser.add_argument("--pachd-cpu-request", metavar="CPUS", default="", help="CPUs that are kept for the daemon")
    parser.add_argument(
        "--pachd-memory-request", metavar="BYTES", default="", help="memory that is kept for the daemon"
    )
    parser.add_argument("--log-level", choices=("error", "info", "debug"), default="info", help="what the daemon logs")


def _accepted_options(parser: argparse.ArgumentParser) -> None:
    accepted = parser.add_argument_group("accepted for compatibility, without effect")
    accepted.add_argument("--etcd-cpu-request", metavar="CPUS", default="", help="there is no etcd")
    accepted.add_argument("--etcd-memory-request", metavar="BYTES", default="", help="there is no etcd")
    accepted.add_argument("--shards", type=not_negative, metavar="N", help="one daemon serves a root")
    accepted.add_argument("--dashboard", action="store_true", help="there is no dashboard")
    accepted.add_argument("--dashboard-only", action="store_true", help="refused: there is no dashboard")
    accepted.add_argument("--dash-image", metavar="IMAGE", default="", help="there is no dashboard")


def _undeploy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-a",
        "--all",
        action="store_true",
        help="also the persistent volume, after asking; what lies on one that was named (--static-etcd-volume) stays",
    )
    _namespace_option(parser)


def _namespace_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--namespace", metavar="NAME", default="", help="default: that of the kubeconfig's context")


COMMANDS = {
    "deploy": Command(
        run=deploy,
        operands=("KIND", "[ARGUMENT...]"),
        options=_deploy_options,
        description="""\
Deploy pfsd on the Kubernetes cluster that kubectl uses (KUBECONFIG), or bring a deployment up to date.

  deploy local
      one node, everything in a directory of it
  deploy amazon BUCKET ID SECRET TOKEN REGION SIZE
      packs in S3; " " for no TOKEN
  deploy google BUCKET SIZE
      packs in BUCKET with an HMAC key, else on the volume
  deploy microsoft CONTAINER ACCOUNT KEY SIZE
      packs on the volume
  deploy custom VOLUME SIZE BUCKET ID SECRET ENDPOINT
      packs in a store that speaks S3
  deploy custom --object-store gcs VOLUME SIZE BUCKET
  deploy custom --object-store azure-blob VOLUME SIZE CONTAINER ACCOUNT KEY

SIZE is the volume's, in GB. Options of Pachyderm 1.5 that have no meaning here are named on standard error.""",
        examples=(
            "pachctl deploy local",
            'pachctl deploy amazon my-bucket $AWS_ID $AWS_KEY " " us-west-2 10 \\\n      --static-etcd-volume=vol-0123',
            "pachctl deploy custom --persistent-disk google --object-store s3 \\\n"
            "      my-disk 10 my-bucket ID SECRET minio:9000 --dry-run > deployment.json",
            "kubectl create -f deployment.json",
        ),
    ),
    "undeploy": Command(
        run=undeploy,
        options=_undeploy_options,
        description="""\
Remove pfsd from the cluster that kubectl uses, with the workers and services of its pipelines, and wait until they
have ended. The persistent volume stays, unless asked for.""",
        examples=(
            "pachctl undeploy",
            "pachctl undeploy --all",
            "# without being asked",
            "echo y | pachctl undeploy --all",
        ),
    ),
}
