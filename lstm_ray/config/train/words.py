"""Settings of a training run for its vocabulary, and for what is learned before training: vectors, language model."""

from __future__ import annotations

from lstm_ray.config.base import FILES, Settings, fixed, learned


class WordSettings(Settings):
    """Vocabulary, word vectors and pretraining."""

    vocabulary: str | None = learned(
        None,
        "Vocabulary to use instead of counting words: a bundle's vocabulary.parquet, or a JSON object of word to rank.",
        panel="Text",
        metavar="FILE",
        path="input",
        from_bundle=False,
    )
    add_words: int = fixed(
        0,
        "Maximum number of words to add from --train to the vocabulary of --from; the new words start with random "
        "vectors, or those of --embeddings.",
        panel="Text",
        ge=0,
        refused={"tune": "is for train: the trials of a search count their own words"},
    )
    embeddings: str | None = learned(
        None,
        "Initial word vectors, in GloVe's or word2vec's text format; other words start with random vectors.",
        panel="Model",
        metavar="FILE",
        path="input",
        from_bundle=False,
    )
    unlabelled: tuple[str, ...] = fixed(
        (),
        "Reviews without labels, as Parquet: word vectors are first learned from these and --train; with "
        "--pretrain-epochs, which the preset best sets, the LSTM is pretrained on them too.",
        panel=FILES,
        metavar="PATH",
        path="input",
        refused={
            "tune": "would learn the same word vectors in every trial: learn them once with lstm-ray vectors, and give "
            "them as `embeddings`"
        },
    )
    learn_vectors: bool = fixed(
        False,
        "Learn initial word vectors from the texts of --train before training; --unlabelled implies this.",
        panel="Model",
        from_data=True,
    )
    vector_epochs: int = fixed(5, "Passes over the texts to learn word vectors.", panel="Model", ge=1)
    vector_window: int = fixed(
        10, "Maximum number of words on either side that a word's vector is learned from.", panel="Model", ge=1
    )
    pretrain_epochs: int = fixed(
        0,
        "Passes over the texts of --train and --unlabelled before training, in which the LSTM learns to predict each "
        "next word; tune pretrains only if this is given.",
        panel="Model",
        ge=0,
        from_data=True,
    )
    freeze_embeddings: bool = learned(False, "Keep the initial word vectors: do not train them.", panel="Model")

    @property
    def learns_vectors(self) -> bool:
        """Returns whether word vectors are learned before training."""
        return self.learn_vectors or bool(self.unlabelled)
