"""What has to be in the environment before anything in the process imports Keras or TensorFlow."""

from __future__ import annotations

import os


def choose_keras() -> None:
    """Has Keras 3 run on TensorFlow, quietly, whatever the user's environment says."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # notices of CPU features and of GPUs that are not there
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Ray Train's TensorFlow integration sets this for Keras 2. We do not use it, but a user's environment might.
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
