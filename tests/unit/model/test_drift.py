"""Whether a corpus has moved from the training data: the index, chance, and the messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.model.drift import Movement, compare, psi, warn
from lstm_ray.model.profile import Profile, TrainingData, count_scores, count_texts
from lstm_ray.text.sequences import Sequences

COUNTS = st.lists(st.integers(1, 1000), min_size=4, max_size=4)


def corpus(
    rows: int, seed: int, *, unknown: float = 0.03, words: float = 3.0, scores: tuple[float, float] = (0.3, 0.3)
) -> Profile:
    """Returns the counts of random rows: share of unknown words, logarithm of the lengths, and a beta of the scores."""
    generator = np.random.default_rng(seed)
    lengths = np.maximum(generator.lognormal(words, 0.8, rows).astype(np.int64), 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    token_ids = np.where(generator.random(offsets[-1]) < unknown, 2, 5).astype(np.int32)
    texts = count_texts(Sequences(token_ids, offsets), int((lengths > 80).sum()))
    return texts + count_scores(generator.beta(*scores, rows).astype(np.float32), 0.5)


TRAINED_ON = TrainingData(corpus(20_000, 0, unknown=0.0), corpus(2_000, 1))


def verdicts(profile: Profile, trained_on: TrainingData | None = TRAINED_ON) -> dict[str, str | None]:
    """Returns what moved how much."""
    return {one.name: one.moved for one in compare(profile, trained_on, 0.5)}


def test_the_index_is_that_of_a_worked_example() -> None:
    # (0.5 - 0.25) ln(0.5 / 0.25) + (0.5 - 0.75) ln(0.5 / 0.75), by hand
    assert psi(np.array([50, 50]), np.array([25, 75])) == pytest.approx(0.25 * 0.693147 + 0.25 * 0.405465, abs=1e-6)
    # an empty bin is a share of 0.0001
    expected = 0.5 * np.log(0.5 / 1) + (0.5 - 1e-4) * np.log(0.5 / 1e-4)
    assert psi(np.array([5, 5]), np.array([1, 0])) == pytest.approx(-0.5 * np.log(0.5) - 0.5 * np.log(0.5) + expected)


@given(COUNTS, COUNTS, st.integers(2, 9))
def test_the_index_is_symmetric_not_negative_and_free_of_sizes(one: list[int], other: list[int], times: int) -> None:
    here, there = np.array(one), np.array(other)
    assert psi(here, there) == pytest.approx(psi(there, here))
    assert psi(here, there) >= 0
    assert psi(here, here) == 0
    assert psi(times * here, there) == pytest.approx(psi(here, there))


@pytest.mark.parametrize("rows", [3, 20, 100, 1000, 20_000])
def test_rows_of_the_same_kind_have_not_moved_however_few_they_are(rows: int) -> None:
    for seed in range(20 if rows < 20_000 else 2):
        assert set(verdicts(corpus(rows, seed + 10)).values()) == {"no"}


def test_each_property_moves_by_itself() -> None:
    def moved(profile: Profile) -> set[str]:
        return {name for name, verdict in verdicts(profile).items() if verdict == "much"}

    assert moved(corpus(1000, 5, unknown=0.6)) == {"unknown_words"}
    assert moved(corpus(1000, 5, words=1.0)) >= {"lengths"}
    assert moved(corpus(1000, 5, words=5.0)) >= {"lengths", "truncated"}
    assert moved(corpus(1000, 5, scores=(3, 0.3))) == {"scores"}
    assert moved(corpus(1000, 5) + Profile(without_words=400)) == {"without_words"}


def test_a_part_of_the_rows_in_another_language_is_noticed() -> None:
    mixed = corpus(9_000, 5) + corpus(1_000, 6, unknown=0.8)
    assert verdicts(mixed)["unknown_words"] == "much"


def test_unknown_words_are_compared_with_rows_that_the_vocabulary_was_not_made_of() -> None:
    by_name = {one.name: one for one in compare(corpus(1000, 5), TRAINED_ON, 0.5)}
    assert by_name["unknown_words"].training == pytest.approx(0.03, abs=0.003)
    alone = {one.name: one for one in compare(corpus(1000, 5), TrainingData(TRAINED_ON.training, Profile()), 0.5)}
    assert alone["unknown_words"].training == 0
    assert (alone["scores"].psi, alone["scores"].moved) == (None, None)


def test_fewer_unknown_words_than_in_validation_are_no_movement() -> None:
    """Rows from which the vocabulary was made have none, and a corpus may contain such rows."""
    assert verdicts(corpus(5_000, 7, unknown=0.0))["unknown_words"] == "no"


def test_without_figures_of_the_training_data_there_are_only_those_of_the_rows() -> None:
    found = compare(corpus(100, 5), None, 0.5)
    assert [(one.training, one.psi, one.moved) for one in found] == [(None, None, None)] * 5
    assert {one.name for one in found} == {"scores", "unknown_words", "lengths", "truncated", "without_words"}
    assert warn(found) is None
    assert compare(Profile(), TRAINED_ON, None) == []


def test_the_warning_tells_what_moved_why_and_what_to_do() -> None:
    same = Movement("lengths", 20.0, 20.0, 0.0, "no")
    scores = Movement("scores", 0.2, 0.5, 0.4, "much")
    foreign = Movement("unknown_words", 0.62, 0.031, 2.0, "much")
    assert warn([same, Movement("scores", 0.4, 0.5, 0.2, "some")]) is None
    text = warn([same, foreign])
    assert text is not None
    assert "these texts are not like" in text
    assert "unknown words 62.0% instead of 3.1%" in text
    assert "another language, subject or column" in text
    assert "lstm-ray evaluate" in text
    assert "words read" not in text
    of_scores = warn([same, scores])
    assert of_scores is not None
    assert of_scores.startswith("the scores of these texts are not like those of the model's validation rows: rows ")
    assert "--max-rows" not in of_scores
    assert "Possible causes: --max-rows takes the first rows, which " in str(warn([same, scores], 200))


def test_lengths_may_have_moved_though_their_means_are_alike() -> None:
    text = str(warn([Movement("lengths", 6.5, 6.8, 0.31, "much")]))
    assert "words read per row 6.5 instead of 6.8 (stability index 0.31). Possible causes: another kind of text" in text
    assert "training left out because of their labels" in text


def test_scores_that_were_decided_in_another_way_have_no_share_to_compare() -> None:
    moved = corpus(1000, 5, scores=(3, 0.3))
    plain, other = (compare(moved, TRAINED_ON, positive) for positive in (0.9, None))
    assert plain[0].here == 0.9
    assert other[0].to_json() == {**plain[0].to_json(), "here": None, "training": None}
    assert other[1:] == plain[1:]
    text = warn(other)
    assert text is not None
    assert f"validation rows: stability index of the scores {other[0].psi:.2f}. Possible" in text
    assert "instead of" not in text
    assert "rows scored positive 90.0% instead of" in str(warn(plain))
