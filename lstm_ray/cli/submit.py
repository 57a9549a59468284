"""lstm-ray submit, lstm-ray jobs"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_ray.cli import console
from lstm_ray.cli.help import Commands
from lstm_ray.errors import LstmRayError
from lstm_ray.wording import command_line

if TYPE_CHECKING:
    from lstm_ray.jobs.client import Job, Jobs

app = Commands(help="The jobs of a cluster: list, status, logs, stop.")

Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="auto|HOST:PORT",
        help="Address of the cluster's dashboard (port 8265) or of Ray itself; auto is $RAY_API_SERVER_ADDRESS if set, "
        "else this machine's dashboard.",
    ),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's ID, as submit and list print it.")]


def submit(
    job_file: Annotated[str, typer.Argument(metavar="JOB.yaml", help="Job file with `command` and its settings.")],
    address: Address = "auto",
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="PATH",
            help="Directory that all nodes share, or URI; relative paths in the job file start there.",
        ),
    ] = None,
    working_dir: Annotated[
        str | None,
        typer.Option("--working-dir", metavar="DIR", help="Directory of your own modules, sent with the job."),
    ] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="Submit only; do not wait.")] = False,
) -> None:
    """Run a job file on a cluster, and follow its log; Ctrl-C leaves it running.

    lstm-ray itself is sent with the job. The exit code is the job's.

    Example: lstm-ray submit jobs/train_imdb_lstm.yaml --address HOST:8265 --storage s3://bucket/reviews
    """
    from lstm_ray.jobs import prepare

    config = prepare.load_job(job_file, storage, working_dir)
    from lstm_ray.jobs import client  # imports Ray, which takes seconds: report a mistake in the job file first

    cluster = client.Jobs(address, console.say)
    job_id = cluster.submit(config, working_dir, console.say)
    console.say(f"submitted {job_id} to {cluster.address}")
    if no_follow:
        console.show_text(job_id + "\n")
        return
    _follow(cluster, job_id)


@app.command("list")
def list_jobs(
    address: Address = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per job.")] = False,
) -> None:
    """List the jobs of a cluster, the newest last.

    Example: lstm-ray jobs list --address HOST:8265
    """
    from lstm_ray.jobs import client

    found = client.Jobs(address, console.say).list()
    if as_json:
        console.show_text("".join(json.dumps(asdict(job)) + "\n" for job in found))
        return
    if not found:
        console.say("no jobs")
        return
    console.show_table("Jobs", [(job.id, f"{_summary(job)}{job.output and f', {job.output}'}") for job in found])


@app.command()
def status(job_id: JobId, address: Address = "auto") -> None:
    """Show the state of a job.

    Example: lstm-ray jobs status ID --address HOST:8265
    """
    from lstm_ray.jobs import client

    cluster = client.Jobs(address, console.say)
    job = cluster.job(job_id)
    rows = [("status", job.status), ("command", job.command), ("output", job.output or "unknown")]
    rows.append(("started", job.started or "not yet"))
    rows.append(("took" if job.has_ended else "running for", f"{job.seconds:,.0f} s"))
    if job.exit_code is not None:
        rows.append(("exit code", str(job.exit_code)))
    rows += zip(["message", *[""] * len(job.reason)], job.reason, strict=False)
    if job.status == "FAILED":
        rows.append(("log", command_line("jobs", "logs", job_id, *cluster.address_option())))
    console.show_table(job.id, rows)


@app.command()
def logs(
    job_id: JobId,
    address: Address = "auto",
    follow: Annotated[
        bool, typer.Option("--follow", help="Follow the log until the job ends; the exit code is the job's.")
    ] = False,
) -> None:
    """Print the log of a job.

    Example: lstm-ray jobs logs ID --follow --address HOST:8265
    """
    from lstm_ray.jobs import client

    cluster = client.Jobs(address, console.say)
    if follow:
        _follow(cluster, job_id)
    else:
        console.show_log(cluster.log(job_id))


@app.command()
def stop(job_id: JobId, address: Address = "auto") -> None:
    """Stop a job. Its finished work is kept: submit the same job again to resume it.

    Example: lstm-ray jobs stop ID --address HOST:8265
    """
    from lstm_ray.jobs import client

    job = client.Jobs(address, console.say).stop(job_id)
    if not job.has_ended:
        raise LstmRayError(f"{job_id} was asked to stop, but is still {job.status.lower()}")
    again = "" if job.status == "SUCCEEDED" else "; submitting the same job file again resumes it"
    console.say(f"{job_id}: {job.status.lower()}{again}")


def _follow(cluster: Jobs, job_id: str) -> None:
    """Shows a job's log to its end and exits with the job's code; Ctrl-C leaves the job running."""
    from lstm_ray.jobs import client

    try:
        job = cluster.follow(job_id, console.show_log, console.say)
    except KeyboardInterrupt:
        console.warn(f"{job_id} is still running. To follow it again, or to stop it:")
        console.warn(f"  {command_line('jobs', 'logs', job_id, '--follow', *cluster.address_option())}")
        console.warn(f"  {command_line('jobs', 'stop', job_id, *cluster.address_option())}")
        raise
    console.say(f"{job_id}: {_summary(job)}")
    if code := client.exit_code(job):
        if job.exit_code is None and job.message:
            console.fail("\n  ".join(job.reason))
            console.warn("on the cluster, `lstm-ray doctor --address auto` finds what its nodes lack")
            console.warn("the same job file, submitted again, resumes")
        raise typer.Exit(code)


def _summary(job: Job) -> str:
    code = f", exit code {job.exit_code}" if job.exit_code else ""
    started = f", {job.seconds:,.0f} s since {job.started}" if job.started else ""
    return f"{job.status.lower()}{code}{started}"
