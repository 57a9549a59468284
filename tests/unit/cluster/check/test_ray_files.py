"""What Ray's installation declares."""

from __future__ import annotations

from lstm_ray.cluster.check.ray_files import check_start_options, launcher_schema, start_options


def test_rays_schema_is_of_launcher_yaml() -> None:
    assert {"cluster_name", "provider", "available_node_types"} <= set(launcher_schema()["properties"])


def test_options_are_those_of_ray_start() -> None:
    assert {"--head", "--address", "--port", "--num-cpus", "--block", "--log-style"} <= start_options()
    assert "--follow" not in start_options(), "of another command"
    assert len(start_options()) > 30


def test_a_misspelt_option_is_a_mistake_and_a_strange_one_a_note() -> None:
    mistake, note = check_start_options(["--head", "--heads", "--quantum"], ("x",))
    assert (mistake.kind, mistake.message) == ("mistake", "`ray start --heads`: unknown option; did you mean --head?")
    assert (note.kind, note.message[:30]) == ("note", "`ray start --quantum`: unknown")
