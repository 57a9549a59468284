"""Logs a training run to MLflow: settings, the metrics of each epoch, the path of the model.

Only this module imports MLflow, and only with `--mlflow`. The MLflow run's id is kept in OUTPUT/mlflow.json, so that a
resumed run continues the same MLflow run.
"""

from __future__ import annotations

import json
import os
from typing import Any

from lstm_ray import storage
from lstm_ray.config import TrainConfig
from lstm_ray.errors import ConfigError, OutputError
from lstm_ray.progress import Epoch, Event, Progress
from lstm_ray.train.loop.state import State
from lstm_ray.wording import reason

EXPERIMENT = "lstm-ray"
ID_FILE = "mlflow.json"


class MlflowRun:
    """Logs epochs to MLflow, and passes all progress events on."""

    def __init__(self, config: TrainConfig, progress: Progress) -> None:
        """Imports MLflow.

        Raises:
            ConfigError: MLflow is not installed.
        """
        try:
            import mlflow
        except ImportError as error:
            raise ConfigError("--mlflow needs MLflow: pip install 'lstm-ray[mlflow]'") from error
        self._progress = progress
        self._failure = mlflow.exceptions.MlflowException
        self._config = config
        self._connect = mlflow.MlflowClient
        self._client: Any = None
        self._id = ""
        # By default MLflow would retry for four minutes in each epoch, while the workers wait.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

    def begin(self) -> None:
        """Starts a run in MLflow; if a run is resumed, continues its MLflow run.

        Raises:
            ConfigError: The client alone cannot use this URI.
            OutputError: The server cannot be used.
        """
        uri = None if self._config.mlflow == "yes" else self._config.mlflow
        try:
            self._client = self._connect(tracking_uri=uri)
            self._id = self._resume() or self._create()
        except ImportError as error:  # of what a database needs
            message = f"--mlflow {self._config.mlflow} needs more than MLflow's client: pip install mlflow ({error})"
            raise ConfigError(message) from error
        except self._failure as error:
            raise OutputError(f"--mlflow {self._config.mlflow}: {reason(error)}") from error

    def __call__(self, event: Event) -> None:
        """Passes an event on, and logs an epoch's metrics. A server that does not answer does not stop the training."""
        self._progress(event)
        if not isinstance(event, Epoch):
            return
        row = event.row
        try:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "epoch":
                    self._client.log_metric(self._id, name, value, step=row["epoch"])
        except self._failure as error:
            self._progress(f"note: MLflow did not receive epoch {row['epoch']}: {reason(error)}")

    def finish(self, state: State) -> None:
        """Logs the model's path and the best epoch, and ends the run in MLflow."""
        try:
            self._client.set_tag(self._id, "model", storage.join(self._config.output, "model"))
            self._client.set_tag(self._id, "best_epoch", state.best_epoch)
            self._client.set_terminated(self._id, "FINISHED")
        except self._failure as error:
            self._progress(f"note: MLflow was not notified that the run is finished: {reason(error)}")

    def fail(self, error: BaseException) -> None:
        """Ends the run in MLflow: as killed if it was interrupted, otherwise as failed. A resumed run continues it."""
        if not self._id:
            return  # not started yet
        try:
            self._client.set_terminated(self._id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        except self._failure as away:
            self._progress(f"note: MLflow was not notified that the run has ended: {reason(away)}")

    def _resume(self) -> str | None:
        path = storage.join(self._config.output, ID_FILE)
        if not storage.exists(path):
            return None
        run_id: str = json.loads(storage.read_bytes(path))["run_id"]
        self._client.update_run(run_id, "RUNNING")
        return run_id

    def _create(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = self._client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
        name = self._config.output.rstrip("/").rsplit("/", 1)[-1]
        run_id: str = self._client.create_run(experiment, run_name=name).info.run_id
        for setting, value in self._config.model_dump(mode="json").items():
            self._client.log_param(run_id, setting, value)
        content = json.dumps({"run_id": run_id}) + "\n"
        storage.write_bytes(storage.join(self._config.output, ID_FILE), content.encode())
        return run_id
