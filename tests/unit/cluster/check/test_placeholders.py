"""Names that the user has to replace."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.cluster.check.placeholders import find_placeholders


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image": "MY-REGISTRY/lstm-ray:ray-2.60.0"}, "contains the placeholder MY-REGISTRY; replace it"),
        ({"storage": "s3://my-bucket/x"}, "contains the placeholder my-bucket"),
        ({"containers": [{"image": "lstm-ray:ray-2.60.0"}]}, "lstm-ray:ray-2.60.0 is not in a registry; push it"),
        ({"docker": {"image": "lstm-ray", "pull_before_run": True}}, "is not in a registry"),
    ],
)
def test_a_placeholder_is_to_do(content: Any, message: str) -> None:
    (finding,) = find_placeholders(content)
    assert finding.kind == "to do"
    assert message in finding.message


@pytest.mark.parametrize(
    "content",
    [
        {"image": "ghcr.io/me/lstm-ray:1"},
        {"docker": {"image": "lstm-ray", "pull_before_run": False}},
        {"storage": "s3://not-my-bucket-x/y"},
        {"max_workers": 4},
    ],
)
def test_other_names_are_none(content: Any) -> None:
    assert list(find_placeholders(content)) == []
