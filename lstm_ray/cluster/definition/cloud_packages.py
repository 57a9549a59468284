"""Packages that Ray needs to rent machines from a cloud."""

from __future__ import annotations

CLOUD_PACKAGES = {
    "aws": "boto3",
    "gcp": "google-api-python-client google-auth cryptography",
    "azure": "azure-cli-core azure-core==1.35.0 azure-identity==1.23.1 azure-mgmt-compute==35.0.0"
    " azure-mgmt-network==29.0.0 azure-mgmt-resource==24.0.0 azure-common==1.1.28 msrest==0.7.1",
}
"""Needed where `cluster up` runs, and on the head, where the autoscaler runs.

Source: imports in ray/autoscaler/_private; versions for Azure from ray/autoscaler/azure/defaults.yaml.
"""
