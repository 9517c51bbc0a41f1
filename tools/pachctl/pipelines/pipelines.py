"""The commands about pipelines."""

from __future__ import annotations

import argparse

from pachctl.pipelines.pushing import add_push_options, check_push_options, push_images
from pachctl.terminal import format
from pachctl.terminal.command import Arguments, Command, UsageError, add_raw_option
from pachctl.terminal.connection import connect
from pachctl.terminal.output import ago, as_json, print_raw, print_table, remark
from pachctl.terminal.states import JOB_STATES, PIPELINE_STATES
from pachproto import pps_pb2

UNCHANGED = "ppsd-unchanged"
"""Metadata at the end of an update that changed nothing."""

HEADER = ("NAME", "INPUT", "OUTPUT", "CREATED", "STATE")

_CROSS = " \N{VECTOR OR CROSS PRODUCT} "
_UNION = " \N{UNION} "


def row(info: pps_pb2.PipelineInfo) -> tuple[str, ...]:
    """A pipeline's line of the table."""
    name = info.pipeline.name
    state = PIPELINE_STATES[info.state]
    return name, shorthand(_input(info)), f"{name}/{info.output_branch}", ago(info.created_at), state


def block(info: pps_pb2.PipelineInfo) -> list[str]:
    """A pipeline's lines when it is inspected."""
    lines = [f"Name: {info.pipeline.name}"]
    if info.description:
        lines.append(f"Description: {format.printable(info.description)}")
    lines += [f"Created: {ago(info.created_at)}", f"State: {PIPELINE_STATES[info.state]}"]
    if info.recent_error:
        lines.append(f"Recent Error: {format.printable(info.recent_error)}")
    lines += _spec(info.given if info.HasField("given") else info)
    counts = "  ".join(f"{word}: {info.job_counts.get(state, 0)}" for state, word in JOB_STATES.items())
    return [*lines, "Job Counts:", counts]


def _spec(given: pps_pb2.CreatePipelineRequest | pps_pb2.PipelineInfo) -> list[str]:
    """The lines for what the spec said; a daemon that does not tell that has filled in defaults."""
    lines = [*parallelism(given.parallelism_spec), *resources(given.resource_spec)]
    lines += ["Input:", as_json(_input(given), field_names=True)]
    if given.output_branch:
        lines.append(f"Output Branch: {given.output_branch}")
    lines += ["Transform:", as_json(given.transform, field_names=True)]
    if given.HasField("egress"):
        lines.append(f"Egress: {given.egress.URL}")
    if given.HasField("service"):
        ports = given.service
        reached = f", reached at port {ports.external_port}" if ports.external_port else ""
        lines.append(f"Service: port {ports.internal_port}{reached}")
    return lines


def shorthand(input: pps_pb2.Input) -> str:
    """An input in a few characters: `images:/*`; a cross or union in brackets, between its sign."""
    if input.HasField("atom"):
        return f"{input.atom.repo}:{input.atom.glob}"
    if input.HasField("cron"):
        return f"{input.cron.name}:{input.cron.spec}"
    sign, members = (_CROSS, input.cross) if input.cross else (_UNION, input.union)
    return f"({sign.join(map(shorthand, members))})" if members else ""


def parallelism(spec: pps_pb2.ParallelismSpec) -> list[str]:
    """The line for how many workers there are; none where nothing is said of it."""
    if spec.constant:
        return [f"Parallelism Spec: constant: {spec.constant}"]
    return [f"Parallelism Spec: coefficient: {spec.coefficient:g}"] if spec.coefficient else []


def resources(spec: pps_pb2.ResourceSpec) -> list[str]:
    """The lines for what each worker asks for; none where it asks for nothing."""
    lines = []
    if spec.cpu:
        lines.append(f"  CPU: {spec.cpu:g}")
    if spec.memory:
        lines.append(f"  Memory: {spec.memory}")
    if spec.gpu:
        lines.append(f"  GPU: {spec.gpu}")
    return ["Resource Spec:", *lines] if lines else []


def create_pipeline(arguments: Arguments) -> None:
    """Creates the pipelines that a file describes."""
    _put_pipelines(arguments, update=False, reprocess=False)


def update_pipeline(arguments: Arguments) -> None:
    """Updates the pipelines that a file describes."""
    _put_pipelines(arguments, update=True, reprocess=arguments.reprocess)


def _put_pipelines(arguments: Arguments, *, update: bool, reprocess: bool) -> None:
    # The parser of specs takes longer to load than most commands to run.
    from pachctl.terminal.fetch import STDIN, read_text
    from ppsd.specs.specjson import parse_requests

    check_push_options(arguments)
    source = arguments.file
    requests = parse_requests(read_text(source), "standard input" if source == STDIN else source)
    if arguments.push_images:
        push_images(requests, arguments)
    with connect() as daemon:
        for request in requests:
            request.update, request.reprocess = update, reprocess
            _, call = daemon.pps.CreatePipeline.with_call(request)
            if any(key == UNCHANGED for key, _ in call.trailing_metadata() or ()):
                remark(
                    f"pipeline {request.pipeline.name}: nothing changed in the spec, so nothing is computed again; "
                    "where the code that it runs has changed, update it with --reprocess"
                )


def run_pipeline(arguments: Arguments) -> None:
    """Runs a pipeline once and prints the job."""
    (name,) = arguments.operands
    request = pps_pb2.CreateJobRequest()
    if arguments.file:
        from pachctl.terminal.fetch import STDIN, read_text
        from ppsd.specs.specjson import parse

        source = "standard input" if arguments.file == STDIN else arguments.file
        given = parse(read_text(arguments.file), source, pps_pb2.CreateJobRequest)
        if len(given) > 1:
            raise UsageError(f"{source} describes {len(given)} jobs: give one")
        (request,) = given
    request.pipeline.name = name
    with connect() as daemon:
        print(daemon.pps.CreateJob(request).id)


def stop_pipeline(arguments: Arguments) -> None:
    """Stops a pipeline."""
    (name,) = arguments.operands
    with connect() as daemon:
        daemon.pps.StopPipeline(pps_pb2.StopPipelineRequest(pipeline=pps_pb2.Pipeline(name=name)))


def start_pipeline(arguments: Arguments) -> None:
    """Starts a pipeline that was stopped."""
    (name,) = arguments.operands
    with connect() as daemon:
        daemon.pps.StartPipeline(pps_pb2.StartPipelineRequest(pipeline=pps_pb2.Pipeline(name=name)))


def inspect_pipeline(arguments: Arguments) -> None:
    """Prints one pipeline."""
    (name,) = arguments.operands
    request = pps_pb2.InspectPipelineRequest(pipeline=pps_pb2.Pipeline(name=name))
    with connect() as daemon:
        info = daemon.pps.InspectPipeline(request)
    if arguments.raw:
        print_raw([info])
    else:
        print("\n".join(block(info)))


def list_pipeline(arguments: Arguments) -> None:
    """Prints the pipelines."""
    with connect() as daemon:
        infos = daemon.pps.ListPipeline(pps_pb2.ListPipelineRequest()).pipeline_info
    if arguments.raw:
        print_raw(infos)
    else:
        print_table([HEADER, *map(row, infos)])


def delete_pipeline(arguments: Arguments) -> None:
    """Deletes one pipeline, or all."""
    (name,) = arguments.operands
    if arguments.all == bool(name):
        raise UsageError(
            "give either the name of a pipeline or --all\nusage: pachctl delete-pipeline [OPTIONS] [PIPELINE]"
        )
    request = pps_pb2.DeletePipelineRequest(
        delete_jobs=arguments.delete_jobs, delete_repo=arguments.delete_repo, all=arguments.all
    )
    if name:
        request.pipeline.name = name
    with connect() as daemon:
        daemon.pps.DeletePipeline(request)


def _input(info: pps_pb2.CreatePipelineRequest | pps_pb2.PipelineInfo) -> pps_pb2.Input:
    """The pipeline's input; the old form, a list of which several are a cross, is turned into the new one."""
    if info.HasField("input") or not info.inputs:
        return info.input
    members = [
        pps_pb2.Input(
            atom=pps_pb2.AtomInput(name=one.name, repo=one.repo.name, branch=one.branch, glob=one.glob, lazy=one.lazy)
        )
        for one in info.inputs
    ]
    return members[0] if len(members) == 1 else pps_pb2.Input(cross=members)


def _create_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--file",
        metavar="SPEC",
        default="-",
        help="the file with the specification: a local file, a URL, or - for standard input (the default)",
    )
    add_push_options(parser)


def _update_options(parser: argparse.ArgumentParser) -> None:
    _create_options(parser)
    parser.add_argument(
        "--reprocess", action="store_true", help="compute everything again, also what the change does not touch"
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--file",
        metavar="JOB",
        default="",
        help="a file that gives commits for some of the inputs: a local file, a URL, or - for standard input",
    )


def _delete_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="delete all pipelines")
    parser.add_argument("--delete-jobs", action="store_true", help="delete the pipeline's jobs as well")
    parser.add_argument("--delete-repo", action="store_true", help="delete the pipeline's output repo as well")


COMMANDS = {
    "create-pipeline": Command(
        run=create_pipeline,
        options=_create_options,
        description="Create pipelines from their specifications, of which a file may hold several.",
        examples=("pachctl create-pipeline -f edges.json",),
    ),
    "update-pipeline": Command(
        run=update_pipeline,
        options=_update_options,
        description="Update pipelines to new specifications. Only what the change touches is computed again; then the\n"
        "output begins a new commit tree, and the former output stays under the branch BRANCH-vVERSION.",
        examples=("pachctl update-pipeline -f edges.json", "pachctl update-pipeline -f edges.json --reprocess"),
    ),
    "run-pipeline": Command(
        run=run_pipeline,
        operands=("PIPELINE",),
        options=_run_options,
        description="Run a pipeline once, on the commits that it ran on last or on others, and print the job.",
        examples=(
            "pachctl run-pipeline edges",
            "# on another commit of an input:",
            '# {"input": {"atom": {"repo": "images", "commit": "master~1"}}}',
            "pachctl run-pipeline edges -f job.json",
        ),
    ),
    "stop-pipeline": Command(
        run=stop_pipeline,
        operands=("PIPELINE",),
        description="Stop a pipeline: it has no workers, and makes no jobs until it is started.",
        examples=("pachctl stop-pipeline edges",),
    ),
    "start-pipeline": Command(
        run=start_pipeline,
        operands=("PIPELINE",),
        description="Start a pipeline that was stopped: it takes up its job and what came in meanwhile.",
        examples=("pachctl start-pipeline edges",),
    ),
    "inspect-pipeline": Command(
        run=inspect_pipeline,
        operands=("PIPELINE",),
        options=add_raw_option,
        description="Return info about a pipeline.",
        examples=("pachctl inspect-pipeline edges",),
    ),
    "list-pipeline": Command(
        run=list_pipeline,
        options=add_raw_option,
        description="Return info about all pipelines.",
        examples=("pachctl list-pipeline",),
    ),
    "delete-pipeline": Command(
        run=delete_pipeline,
        operands=("[PIPELINE]",),
        options=_delete_options,
        description="Delete a pipeline; its output repo and its jobs stay, unless asked for.",
        examples=(
            "pachctl delete-pipeline edges",
            "pachctl delete-pipeline --all --delete-jobs --delete-repo",
        ),
    ),
}
