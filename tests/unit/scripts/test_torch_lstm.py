"""PyTorch's network of the benchmarks computes ours, in every way; PyTorch is not among the packages of the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def modules() -> Any:
    from benchmarks import gpu_parts, torch_lstm

    return gpu_parts, torch_lstm


def weights_of(keras_model: Any, network: Any, is_split: bool) -> dict[str, Any]:
    """Returns a Keras model's weights by PyTorch's names."""
    table, *lstms, kernel, bias = (torch.tensor(each) for each in keras_model.get_weights())
    found = {"embedding.weight": table, "output.weight": kernel.T, "output.bias": bias}
    for direction in range(network.directions):
        suffix, layer = ("", direction) if is_split else ("_reverse" * direction, 0)
        inputs, state, shift = lstms[3 * direction : 3 * direction + 3]
        for name, value in (
            ("weight_ih", inputs.T),
            ("weight_hh", state.T),
            ("bias_ih", shift),
            ("bias_hh", 0 * shift),
        ):
            found[f"lstms.{layer}.{name}_l0{suffix}"] = value
    return found


@pytest.mark.parametrize(
    "changes",
    [{}, {"bidirectional": True}, {"mask": True, "padding": "post", "bidirectional": True, "pooling": "mean_max"}],
)
def test_every_way_computes_our_network(modules: Any, changes: dict[str, Any]) -> None:
    from lstm_ray.runtime.tensorflow import start_tensorflow

    start_tensorflow()
    from lstm_ray.model.architectures import build_model

    gpu_parts, torch_lstm = modules
    network = gpu_parts.Network(200, 12, 8, 8, **changes)
    config = gpu_parts.config_of(network)
    ours = build_model(config, config, 0)
    rows = gpu_parts.draw_rows(network, 20)
    rows.lengths[:] = np.arange(20) % 12 + 1
    rows = gpu_parts.Rows(rows.token_ids[: rows.lengths.sum()], rows.lengths, rows.labels)
    ids = rows.padded(network)
    expected = np.asarray(ours(ids))[:, 0]
    for way in torch_lstm.ways(network):
        model = torch_lstm.TorchLstm(network, way).eval()
        model.load_state_dict(weights_of(ours, network, network.mask and not way.packed))
        logits = model(torch.from_numpy(ids).long(), torch.from_numpy(rows.lengths))
        np.testing.assert_allclose(torch.sigmoid(logits).detach().numpy(), expected, atol=1e-6, err_msg=str(way))


def test_a_step_learns(modules: Any) -> None:
    gpu_parts, torch_lstm = modules
    network = gpu_parts.Network(200, 12, 8, 8, learning_rate=0.05)
    ids, labels = next(gpu_parts.sorted_batches(network))
    for way in torch_lstm.ways(network):
        trainer = torch_lstm.TorchTrainer(network, way)
        losses = [float(trainer.train(ids, labels)) for _ in range(20)]
        assert losses[-1] < losses[0] / 2
