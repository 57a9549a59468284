"""The Keras engine on workers that sum tensors by TensorFlow: it learns what it learns over TCP and alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import steps
import tensorflow_workers
from tensorflow_workers import on_all

from lstm_ray.train.data.batches import in_steps, worker_batches

STEPS = 4
_MORE = [("masked", 3), ("recurrent-dropout", 2), ("frozen", 2)]
NETWORKS: dict[str, dict[str, Any]] = {
    "masked": {"mask": True, "pooling": "max", "clip_norm": 0.05},
    # XLA computes these gradients. The slices add up the embedding's as a full matrix.
    "recurrent-dropout": {"recurrent_dropout": 0.2, "accumulate": 2},
    "frozen": {"freeze_embeddings": True, "from_": "model"},
}


def learn(member: Any, settings: dict[str, Any], over_tcp: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns the weights after some steps on uneven shares of the rows, and the sums of each step."""
    from lstm_ray.train.step.choice import make_stepper

    config = steps.settings(engine="keras", **settings)
    corpus = steps.make_corpus(shortest=3)
    stepper = make_stepper(config, member._control if over_tcp else member, corpus.labels)
    sums = []
    batches = worker_batches(
        corpus,
        in_steps(np.arange(len(corpus)), config.global_batch_size),
        config,
        rank=member.rank,
        world_size=member.world_size,
    )
    for number, batch in zip(range(STEPS), batches, strict=False):
        stepper.reseed(0, 1, number, member.rank)
        sums.append(np.asarray(stepper.train(batch)))
    return [weights for weights in stepper.weights() if weights.dtype == np.float32], np.array(sums)


@pytest.mark.parametrize(
    ("network", "world_size"),
    [("masked", 2), *(pytest.param(*case, marks=pytest.mark.second_tier) for case in _MORE)],
)
def test_tensors_and_arrays_teach_the_same(network: str, world_size: int) -> None:
    with tensorflow_workers.group(world_size) as workers:
        found, expected = (on_all(workers, learn, NETWORKS[network], over_tcp) for over_tcp in (False, True))
    for weights, sums in found:
        for one, first, other in zip(weights, found[0][0], expected[0][0], strict=True):
            assert one.tobytes() == first.tobytes(), "the workers have the same bits"
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
        np.testing.assert_allclose(sums, expected[0][1], rtol=1e-5)
