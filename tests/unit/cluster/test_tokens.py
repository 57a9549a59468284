"""The token in a definition: found wherever it is written down, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.cluster.document import path_of
from lstm_ray.cluster.tokens import find_tokens


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"env": [{"name": "RAY_AUTH_TOKEN", "value": "5ecret"}]}, "env[0].value"),
        ({"entrypoint": "RAY_AUTH_TOKEN=5ecret lstm-ray score"}, "entrypoint"),
        ({"entrypoint": "export RAY_AUTH_TOKEN='5ecret'; x"}, "entrypoint"),
        ({"runtimeEnvYAML": "env_vars:\n  RAY_AUTH_TOKEN: 5ecret"}, "runtimeEnvYAML"),
        ({"runtimeEnvYAML": '{"env_vars": {"RAY_AUTH_TOKEN": "5ecret"}}'}, "runtimeEnvYAML"),
        ({"runtimeEnvYAML": '{"env_vars":{"RAY_AUTH_TOKEN":"5ecret"}}'}, "runtimeEnvYAML"),
        ({"env_vars": {"RAY_AUTH_TOKEN": 12345}}, "env_vars.RAY_AUTH_TOKEN"),
        ({"docker": {"run_options": ["--env RAY_AUTH_TOKEN=5ecret"]}}, "docker.run_options[0]"),
    ],
)
def test_a_token_is_found(content: Any, path: str) -> None:
    (finding,) = find_tokens(content)
    assert path_of(finding.place) == path
    assert "5ecret" not in finding.message


@pytest.mark.parametrize(
    "content",
    [
        {"env": [{"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "x", "key": "auth_token"}}}]},
        {"env": [{"name": "RAY_AUTH_TOKEN", "value": ""}]},
        {"env": [{"name": "RAY_AUTH_TOKEN", "value": "$(TOKEN)"}]},
        {"setup_commands": ["export RAY_AUTH_TOKEN=$(cat token)", 'export RAY_AUTH_TOKEN="$TOKEN"']},
        {"setup_commands": ["export RAY_AUTH_TOKEN_PATH=/x/token"]},
        {"runtimeEnvYAML": "env_vars: {RAY_AUTH_TOKEN: ${TOKEN}}"},
        {"env_vars": {"RAY_AUTH_TOKEN": None}},
        {"setup_commands": ["export RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(cat token)}; : ${RAY_AUTH_TOKEN:?is not set}"]},
    ],
)
def test_where_it_comes_from_is_no_token(content: Any) -> None:
    assert list(find_tokens(content)) == []
