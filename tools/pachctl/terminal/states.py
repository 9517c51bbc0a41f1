"""The words for the states of jobs, datums and pipelines."""

from __future__ import annotations

from pachproto import pps_pb2

JOB_STATES = {
    pps_pb2.JOB_STARTING: "starting",
    pps_pb2.JOB_RUNNING: "running",
    pps_pb2.JOB_FAILURE: "failure",
    pps_pb2.JOB_SUCCESS: "success",
    pps_pb2.JOB_KILLED: "killed",
}

DATUM_STATES = {
    pps_pb2.STARTING: "starting",
    pps_pb2.SUCCESS: "success",
    pps_pb2.FAILED: "failed",
    pps_pb2.SKIPPED: "skipped",
}

PIPELINE_STATES = {
    pps_pb2.PIPELINE_STARTING: "starting",
    pps_pb2.PIPELINE_RUNNING: "running",
    pps_pb2.PIPELINE_RESTARTING: "restarting",
    pps_pb2.PIPELINE_FAILURE: "failure",
    pps_pb2.PIPELINE_PAUSED: "paused",
}
