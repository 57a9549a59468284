"""Secrets in a definition: found wherever they are written down, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.cluster.check.document import path_of
from lstm_ray.cluster.check.secrets import find_secrets


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
        ({"storage": ["cp s3://KEY:5ecret@bucket/x ."]}, "storage[0]"),
        ({"docker": {"run_options": ["--env RAY_AUTH_TOKEN=5ecret"]}}, "docker.run_options[0]"),
    ],
)
def test_a_secret_is_found(content: Any, path: str) -> None:
    (finding,) = find_secrets(content)
    assert path_of(finding.field) == path
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
        {"storage": "abfs://container@account.dfs.core.windows.net/x"},
        {"storage": "http://user@host:80/x"},
        {"setup_commands": ["export RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(cat token)}; : ${RAY_AUTH_TOKEN:?is not set}"]},
    ],
)
def test_where_it_comes_from_is_no_secret(content: Any) -> None:
    assert list(find_secrets(content)) == []
