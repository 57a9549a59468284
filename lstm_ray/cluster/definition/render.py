"""Writes a cluster definition: `lstm-ray cluster render`."""

from __future__ import annotations

from importlib.metadata import version

from lstm_ray.cluster.check.document import parse
from lstm_ray.cluster.check.validate import check
from lstm_ray.cluster.definition.kuberay import render_kuberay
from lstm_ray.cluster.definition.launcher import render_launcher
from lstm_ray.cluster.definition.settings import PROVIDERS, ClusterConfig
from lstm_ray.cluster.definition.text import laid_out
from lstm_ray.errors import ConfigError
from lstm_ray.wording import counted


def render(config: ClusterConfig, ray_version: str | None = None) -> str:
    """Returns a complete definition: YAML for Ray's launcher or for KubeRay, with comments.

    Args:
        config: What it is to look like.
        ray_version: The version of Ray in it; that of this installation if not given.

    Raises:
        ConfigError: There is no provider, a machine type is not known well enough, or the definition would have a
            mistake.
    """
    if config.provider is None:
        raise ConfigError(f"--provider is missing: one of {', '.join(PROVIDERS)}")
    ray_version = ray_version or version("ray")
    if config.provider == "kuberay":
        body, how = render_kuberay(config, ray_version), "kubectl apply --filename FILE"
    else:
        body, how = render_launcher(config, ray_version), "lstm-ray cluster up FILE"
    header = [
        f"# {config.command}",
        f"# Ray {ray_version}. Check changes with `lstm-ray cluster validate FILE`, then: {how}",
    ]
    text = "\n".join(header) + "\n\n" + laid_out(body)
    if mistakes := check(parse(text, "the definition"), "the definition").mistakes:
        told = "\n".join(f"  {remark.path}: {remark.finding.message}" for remark in mistakes)
        raise ConfigError(f"these settings make a definition with {counted(len(mistakes), 'mistake')}:\n{told}")
    return text
