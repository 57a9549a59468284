"""What Kubernetes lets names be. Source: its pages "Object Names and IDs" and "Labels and Selectors"."""

from __future__ import annotations

import re

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""Of namespaces and containers: RFC 1123."""

DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""Of what stands in front of a label's slash."""

LABEL = re.compile(r"[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
"""A label's value, and its name without what stands in front of a slash."""
