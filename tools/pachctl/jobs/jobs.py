"""The commands about jobs and their logs."""

from __future__ import annotations

import argparse

from pachctl.commits.commits import parse_commit
from pachctl.pipelines.pipelines import parallelism, resources
from pachctl.terminal import format
from pachctl.terminal.command import Arguments, Command, UsageError, add_raw_option
from pachctl.terminal.connection import Daemon, connect
from pachctl.terminal.output import ago, as_json, between, print_raw, print_table, remark, span
from pachctl.terminal.states import JOB_STATES
from pachproto import pps_pb2
from pfsd.errors import NotFoundError

HEADER = ("ID", "OUTPUT COMMIT", "STARTED", "DURATION", "RESTART", "PROGRESS", "DL", "UL", "STATE")
WIDE = "wide"
WORKER_HEADER = ("WORKER", "JOB", "DATUM", "STARTED", "QUEUE")


def row(info: pps_pb2.JobInfo) -> tuple[str, ...]:
    """A job's line of the table."""
    commit = info.output_commit
    return (
        info.job.id,
        f"{commit.repo.name}/{commit.id}" if commit.id else "-",
        ago(info.started),
        between(info.started, info.finished) if info.HasField("finished") else "-",
        str(info.restart),
        progress(info),
        format.size(info.stats.download_bytes),
        format.size(info.stats.upload_bytes),
        JOB_STATES[info.state],
    )


def progress(info: pps_pb2.JobInfo) -> str:
    """Datums processed and skipped, of all."""
    return f"{info.data_processed} + {info.data_skipped} / {info.data_total}"


def block(info: pps_pb2.JobInfo) -> list[str]:
    """A job's lines when it is inspected."""
    lines = [f"ID: {info.job.id}"]
    if info.HasField("pipeline"):
        lines.append(f"Pipeline: {info.pipeline.name}")
    if info.HasField("parent_job"):
        lines.append(f"Parent: {info.parent_job.id}")
    lines.append(f"Started: {ago(info.started)}")
    if info.HasField("finished"):
        lines.append(f"Duration: {between(info.started, info.finished)}")
    lines += [
        f"State: {JOB_STATES[info.state]}",
        *([f"Reason: {format.printable(info.reason)}"] if info.reason else []),
        f"Progress: {progress(info)}",
        *process_stats(info.stats),
        "Worker Status:",
        *format.table([WORKER_HEADER, *map(_worker_row, info.worker_status)]),
        f"Restarts: {info.restart}",
        *parallelism(info.parallelism_spec),
        *resources(info.resource_spec),
    ]
    if info.HasField("input"):
        lines += ["Input:", as_json(info.input, field_names=True)]
    lines += ["Transform:", as_json(info.transform, field_names=True)]
    if info.output_commit.id:
        lines.append(f"Output Commit: {info.output_commit.id}")
    if info.HasField("stats_commit"):
        lines.append(f"Stats Commit: {info.stats_commit.id}")
    if info.HasField("egress"):
        lines.append(f"Egress: {info.egress.URL}")
    return lines


def process_stats(stats: pps_pb2.ProcessStats) -> list[str]:
    """The lines for what datums cost."""
    return [
        f"Data Downloaded: {format.size(stats.download_bytes)}",
        f"Data Uploaded: {format.size(stats.upload_bytes)}",
        f"Download Time: {span(stats.download_time)}",
        f"Process Time: {span(stats.process_time)}",
        f"Upload Time: {span(stats.upload_time)}",
    ]


def inspect_job(arguments: Arguments) -> None:
    """Prints one job, with --block once it has ended."""
    (job,) = arguments.operands
    request = pps_pb2.InspectJobRequest(job=pps_pb2.Job(id=job), block_state=arguments.block)
    with connect() as daemon:
        info = daemon.pps.InspectJob(request)
    if arguments.raw:
        print_raw([info])
    else:
        print("\n".join(block(info)))


def list_job(arguments: Arguments) -> None:
    """Prints jobs, newest first."""
    request = pps_pb2.ListJobRequest(input_commit=[parse_commit(text) for text in arguments.operands])
    if arguments.pipeline:
        request.pipeline.name = arguments.pipeline
    with connect() as daemon:
        infos = daemon.pps.ListJob(request).job_info
    if arguments.raw:
        print_raw(infos)
    elif arguments.output == WIDE:
        rows = [(*row(info), info.reason or "-") for info in infos]
        print_table([(*HEADER, "REASON"), *rows], min_width=0, padding=1)
    else:
        print_table([HEADER, *map(row, infos)], min_width=0, padding=1)


def stop_job(arguments: Arguments) -> None:
    """Stops a job."""
    (job,) = arguments.operands
    with connect() as daemon:
        daemon.pps.StopJob(pps_pb2.StopJobRequest(job=pps_pb2.Job(id=job)))


def delete_job(arguments: Arguments) -> None:
    """Deletes a job."""
    (job,) = arguments.operands
    with connect() as daemon:
        daemon.pps.DeleteJob(pps_pb2.DeleteJobRequest(job=pps_pb2.Job(id=job)))


def get_logs(arguments: Arguments) -> None:
    """Prints log messages, and on standard error why the job, or the pipeline's newest one, failed."""
    if not (arguments.pipeline or arguments.job):
        raise UsageError("say whose logs: give --pipeline NAME or --job ID")
    if arguments.master and arguments.system:
        raise UsageError("--master and --system can't be used together: those are two logs")
    request = pps_pb2.GetLogsRequest(
        data_filters=[text for text in arguments.inputs.split(",") if text], master=arguments.master
    )
    if arguments.pipeline:
        request.pipeline.name = arguments.pipeline
    if arguments.job:
        request.job.id = arguments.job
    with connect() as daemon:
        if arguments.datum or arguments.follow:
            from pachproto import ppsd_pb2

            more = ppsd_pb2.LogsRequest(log=request, datum_id=arguments.datum, follow=arguments.follow)
            messages = daemon.logs.Read(more)
        else:
            messages = daemon.pps.GetLogs(request)
        for message in messages:
            if arguments.raw:
                print(as_json(message, on_one_line=True), flush=True)
            elif message.user or arguments.master or arguments.system:
                print(message.message.removesuffix("\n"), flush=True)
        if not arguments.raw and not arguments.master:
            trouble = _trouble_of_job(daemon, arguments.job) if arguments.job else _trouble(daemon, arguments.pipeline)
            if trouble:
                remark(format.printable(trouble))


def _trouble_of_job(daemon: Daemon, job: str) -> str:
    """Why a job did not succeed; empty where it did, or still runs."""
    info = daemon.pps.InspectJob(pps_pb2.InspectJobRequest(job=pps_pb2.Job(id=job)))
    how = "was killed" if info.state == pps_pb2.JOB_KILLED else "failed"
    return f"job {job} {how}: {info.reason}" if info.reason else ""


def _trouble(daemon: Daemon, pipeline: str) -> str:
    """What is wrong with a pipeline; empty where nothing is, or there is only its log any more."""
    try:
        with daemon.errors():
            info = daemon.pps.InspectPipeline(pps_pb2.InspectPipelineRequest(pipeline=pps_pb2.Pipeline(name=pipeline)))
    except NotFoundError:
        return ""
    return f"pipeline {pipeline}: {info.recent_error}" if info.recent_error else ""


def _worker_row(status: pps_pb2.WorkerStatus) -> tuple[str, ...]:
    datum = " ".join(file.path for file in status.data)
    started = ago(status.started) if status.HasField("started") else "-"
    return status.worker_id, status.job_id, datum, started, str(status.queue_size)


def _inspect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-b", "--block", action="store_true", help="block until the job has either succeeded or failed")
    add_raw_option(parser)


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", "--pipeline", metavar="NAME", default="", help="limit to jobs made by a pipeline")
    parser.add_argument("-o", "--output", choices=(WIDE,), help=f"{WIDE}: also say why a job failed or was killed")
    add_raw_option(parser)


def _logs_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pipeline", metavar="NAME", default="", help="log lines from this pipeline")
    parser.add_argument("--job", metavar="ID", default="", help="log lines from this job")
    parser.add_argument(
        "--inputs",
        metavar="FILE[,FILE...]",
        default="",
        help="only log lines from processing all of these files, given as paths in a repo or as hashes",
    )
    parser.add_argument("--datum", metavar="ID", default="", help="log lines from this datum")
    parser.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="go on with lines as they come: of a job until it has ended, of a pipeline until interrupted",
    )
    parser.add_argument(
        "--system",
        action="store_true",
        help="also what the system says while it runs the code: failures, tries, limits",
    )
    parser.add_argument(
        "--master", action="store_true", help="instead what the pipeline's master says: its jobs, its workers"
    )
    parser.add_argument("--raw", action="store_true", help="print whole log messages, each as JSON on one line")


COMMANDS = {
    "inspect-job": Command(
        run=inspect_job,
        operands=("JOB",),
        options=_inspect_options,
        description="Return info about a job.",
        examples=(
            "pachctl inspect-job 1b2c1b49f536484fb0e307b3906572be",
            "# wait until it has ended",
            "pachctl inspect-job -b 1b2c1b49f536484fb0e307b3906572be",
        ),
    ),
    "list-job": Command(
        run=list_job,
        operands=("[COMMIT...]",),
        options=_list_options,
        description="Return info about jobs, newest first: all, or those that have all the given commits,\n"
        "written as REPO/COMMIT, among their inputs. PROGRESS is datums processed + skipped / total.",
        examples=(
            "pachctl list-job",
            "# the jobs of the pipeline foo that have the head of bar's master as an input",
            "pachctl list-job -p foo bar/master",
        ),
    ),
    "stop-job": Command(
        run=stop_job,
        operands=("JOB",),
        description="Stop a job. It ends as killed, its output commit stays unfinished, and its pipeline goes on.",
        examples=("pachctl stop-job 1b2c1b49f536484fb0e307b3906572be",),
    ),
    "delete-job": Command(
        run=delete_job,
        operands=("JOB",),
        description="Delete a job, which is stopped first if it runs; what it has put out stays.",
        examples=("pachctl delete-job 1b2c1b49f536484fb0e307b3906572be",),
    ),
    "get-logs": Command(
        run=get_logs,
        options=_logs_options,
        description="Print what user code has printed in a job, or in the recent jobs of a pipeline.\n"
        "Why a job failed is said on standard error.",
        examples=(
            "pachctl get-logs --pipeline=filter",
            "pachctl get-logs --job=1b2c1b49f536484fb0e307b3906572be",
            "# all that a job says until it has ended",
            "pachctl get-logs -f --job=1b2c1b49f536484fb0e307b3906572be",
            "# what the pipeline filter said of /apple.txt and a file whose hash is 123aef",
            "pachctl get-logs --pipeline=filter --inputs=/apple.txt,123aef",
        ),
    ),
}
