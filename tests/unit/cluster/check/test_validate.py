"""Validation: what is reported, on which line, in which order, and what is not a mistake."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import definitions
import pytest
import yaml
from definitions import GONE, GOOD, JOB, RAY, change, documents, parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lstm_ray.cli.app import app as program
from lstm_ray.cluster.check.validate import validate
from lstm_ray.cluster.definition.render import render
from lstm_ray.cluster.definition.settings import ClusterConfig
from lstm_ray.errors import InputError

Write = Callable[[list[Any]], str]


pytestmark = pytest.mark.usefixtures("bare_machine")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Gives a function that writes documents to a file and returns its path."""
    return lambda content: definitions.write(content, tmp_path)


def fields(content: Any, base: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of each field of a definition."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*base, key)
        if isinstance(value, dict | list):
            yield from fields(value, (*base, key))


WHATEVER: list[Any] = [None, "", "x", "A B", "1e999", -1, 2.5, 10**30, True, [], {}, ["a"], [None], [[]], {"a": 1}]
WHATEVER += [[{}], {5: 5}, {None: [1]}, {True: "x"}, {2.5: {}}, float("inf"), "RAY_AUTH_TOKEN=x", date(2026, 2, 3)]


@given(name=st.sampled_from(sorted(GOOD)), data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_of_a_field_breaks_the_check(name: str, data: st.DataObject, write: Write) -> None:
    content = documents(name)
    field = data.draw(st.sampled_from(list(fields(content))))
    inner = content
    for part in field[:-1]:
        inner = inner[part]
    inner[field[-1]] = copy.deepcopy(data.draw(st.sampled_from(WHATEVER)))
    with suppress(InputError):
        path = write(content)
        report = validate(path, parse=parse)
        lines = Path(path).read_text(encoding="utf-8").count("\n")
        assert all(1 <= remark.line <= lines for remark in (*report.mistakes, *report.to_do, *report.notes))


def test_all_mistakes_are_reported_at_once_by_line(tmp_path: Path) -> None:
    text = render(ClusterConfig(**GOOD["cluster"]), RAY)
    text = text.replace("replicas: 0", "replicas: 7").replace("mode: token", "mode: disabled")
    text = text.replace("serviceType: ClusterIP", "serviceType: NodePort").replace('num-cpus: "0"', 'num-cpu: "0"')
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    report = validate(str(path))
    lines = text.splitlines()
    expected = {"replicas: 7": "above", "mode: disabled": "is off", "NodePort": "outside", "num-cpu:": "did you mean"}
    for part, message in expected.items():
        numbers = [number for number, line in enumerate(lines, 1) if part in line]
        remarks = [remark for remark in report.mistakes if message in remark.finding.message]
        assert {remark.line for remark in remarks} == set(numbers), part
    assert [remark.line for remark in report.mistakes] == sorted(remark.line for remark in report.mistakes)


def test_a_duplicate_key_is_a_mistake(tmp_path: Path) -> None:
    text = render(ClusterConfig(**GOOD["aws"]), RAY)
    path = tmp_path / "cluster.yaml"
    path.write_text(text + "max_workers: 9\n", encoding="utf-8")
    (remark,) = validate(str(path)).mistakes
    assert remark.path == "max_workers"
    assert "duplicate key" in remark.finding.message
    assert remark.line == len(text.splitlines()) + 1


def test_placeholders_and_missing_files_are_to_do_and_no_mistake(write: Write) -> None:
    config = ClusterConfig(provider="gcp", ssh_key="/no/such/key")
    report = validate(write(list(yaml.safe_load_all(render(config, RAY)))))
    assert report.mistakes == ()
    said = {(remark.path, remark.finding.message.split(";")[0]) for remark in report.to_do}
    assert ("provider.project_id", "contains the placeholder my-project") in said
    assert ("auth.ssh_private_key", "/no/such/key does not exist") in said


def test_what_need_not_be_wrong_is_a_note(write: Write) -> None:
    job = documents("job")
    job[0]["spec"]["entrypoint"] = JOB.replace("4", "2:9")
    cluster = job[0]["spec"]["rayClusterSpec"]
    cluster["rayVersion"] = "2.61.0"
    for group in (cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]):
        group["template"]["spec"]["containers"][0]["image"] = "me/own:7"
    report = validate(write(job), parse=parse)
    assert report.mistakes == ()
    notes = {remark.path: remark.finding.message for remark in report.notes}
    assert notes["spec.entrypoint"] == "may use 9 workers of 1 core and 1 GPU, but the groups have room for 4"
    assert notes["spec.rayClusterSpec.rayVersion"].startswith("is 2.61.0, this installation has")
    assert notes["kind"] == "is NetworkPolicy, which only --server checks"


def test_two_objects_of_one_name_are_a_mistake(write: Write) -> None:
    cluster, policy = documents("cluster")
    (remark,) = validate(write([cluster, policy, cluster])).mistakes
    assert (remark.path, remark.finding.message[:30]) == ("metadata.name", "is the name of another RayClus")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a: [", "not YAML"),
        ("a: 2026-02-31", "not YAML"),
        ("just words", "neither a definition for `ray up`"),
        ("- a\n- b", "neither a definition for `ray up`"),
        ("provider: aws", "neither a definition for `ray up`"),
        ("apiVersion: v1\nkind: Pod", "contains no RayCluster or RayJob, only Pod"),
        ("\x00", "not YAML"),
    ],
)
def test_what_is_no_definition_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        validate(str(tmp_path / "cluster.yaml"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: no such file"):
        validate(str(tmp_path / "none.yaml"))


def run(*arguments: str) -> Any:
    """Runs `lstm-ray cluster validate`."""
    return CliRunner().invoke(program, ["cluster", "validate", *arguments])


def test_the_command_ends_with_0_or_1(write: Write) -> None:
    good = documents("azure")
    path = write(good)
    result = run(path)
    assert result.exit_code == 0
    assert result.stdout == f"{path}: no mistakes, but 2 things to do before it can be used\n"
    assert result.stderr.count("to do: ") == 2
    change(good[0], "file_mounts", GONE)
    change(good[0], "max_workers", -1)
    path = write(good)
    result = run(path)
    assert result.exit_code == 1
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == f"{path}: 2 mistakes"
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{path}:1: file_mounts: has no token for the nodes; add")
    assert lines[1].startswith(f"{path}:2: max_workers: is -1; it should be at least 0")


def test_a_definition_with_nothing_to_do_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    config = ClusterConfig(provider="aws", storage="s3://reviews/x", image=f"ghcr.io/me/lstm-ray:ray-{RAY}")
    path.write_text(render(config, RAY), encoding="utf-8")
    assert run(str(path)).stdout == f"{path}: valid\n"


def test_without_kuberays_schema_the_verdict_is_not_fully_checked(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    config = ClusterConfig(provider="kuberay", image=f"ghcr.io/me/lstm-ray:ray-{RAY}")
    path.write_text(render(config, RAY), encoding="utf-8")
    result = run(str(path))
    assert result.exit_code == 0
    assert result.stdout == f"{path}: not fully checked, no mistakes found\n"
    assert "pass KubeRay's CRDs with --crds DIR, or let your Kubernetes cluster check with --server" in result.stderr


def test_a_name_to_replace_is_part_of_the_verdict(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(render(ClusterConfig(**GOOD["cluster"]), RAY), encoding="utf-8")
    result = run(str(path))
    assert result.exit_code == 0
    verdict = "not fully checked, no mistakes found, but 2 things to do before it can be used"
    assert result.stdout == f"{path}: {verdict}\n"
    assert result.stderr.count(f"lstm-ray:ray-{RAY} is not in a registry; push it") == 2


def test_a_jobs_command_line_is_checked_by_validate_and_render(write: Write) -> None:
    job = documents("job")
    job[0]["spec"]["entrypoint"] = "lstm-ray scor reviews"
    result = run(write(job))
    assert result.exit_code == 1
    assert "spec.entrypoint: `lstm-ray scor` is wrong: no command 'scor'; did you mean score?" in result.stdout
    arguments = ["cluster", "render", "--provider", "kuberay", "--entrypoint", "lstm-ray scor reviews"]
    refused = CliRunner().invoke(program, arguments)
    assert "did you mean score?" in str(refused.exception)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[4] / "jobs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_job_file_is_refused_as_one(tmp_path: Path, path: Path) -> None:
    path = shutil.copy(path, tmp_path / "a job.yaml")
    with pytest.raises(
        InputError, match=r"is a job file for `lstm-ray \w+`, not a cluster definition: check it"
    ) as raised:
        validate(str(path))
    assert f"`lstm-ray submit '{path}'`" in str(raised.value)
