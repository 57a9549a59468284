"""Versions of Ray and Python in images and commands."""

from __future__ import annotations

import pytest

from lstm_ray.cluster.check.versions import as_numbers, check_agreement, python_of_image, ray_of_image, rays_in_command


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("rayproject/ray:2.60.0", "2.60.0"),
        ("rayproject/ray:2.60.0-py311-gpu", "2.60.0"),
        ("host:5000/rayproject/ray-ml:2.9.3", "2.9.3"),
        ("me/lstm-ray:ray-2.60.0", "2.60.0"),
        ("me/lstm-ray:1.0-ray2.60.0", "2.60.0"),
        ("me/lstm-ray:1.0.0", None),
        ("rayproject/ray:latest", None),
        ("rayproject/ray:nightly-py311", None),
        ("host:5000/ray", None),
        ("rayproject/ray:2.60.0@sha256:0123", "2.60.0"),
        ("ray", None),
    ],
)
def test_the_version_in_an_image(image: str, version: str | None) -> None:
    assert ray_of_image(image) == version


def test_the_versions_in_a_command() -> None:
    assert rays_in_command('pip install "ray[default,data]==2.60.0" x-ray==1.2.3') == ["2.60.0"]
    assert rays_in_command("pip install ray==2.60.0 && pip install ray==2.61.0") == ["2.60.0", "2.61.0"]
    assert rays_in_command("pip install ray") == []


def test_versions_compare_as_numbers() -> None:
    assert as_numbers("2.9.0") < as_numbers("2.52.0") < as_numbers("2.60.0")  # type: ignore[operator]
    assert as_numbers("2.61.0.dev1") == (2, 61, 0)
    assert as_numbers("nightly") is None


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("rayproject/ray:2.60.0-py311-gpu", "3.11"),
        ("me/lstm-ray:ray-2.60.0-py310", "3.10"),
        ("rayproject/ray:2.60.0", None),
        ("me/happy3:1", None),
    ],
)
def test_the_python_of_an_image(image: str, version: str | None) -> None:
    assert python_of_image(image) == version


def test_a_version_that_differs_is_found_once_for_each_field() -> None:
    mentions = [(("a",), "Ray", "2.60"), (("b",), "Python", "3.11"), (("c",), "Ray", "2.60.0"), (("d",), "Ray", None)]
    assert list(check_agreement(mentions)) == []
    (finding,) = check_agreement([*mentions, (("e",), "Python", "3.10")])
    assert finding.field == ("e",)
    assert finding.message.startswith("has Python 3.10, but an earlier field has Python 3.11")
