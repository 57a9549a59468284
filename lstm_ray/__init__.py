"""Train Keras 3 LSTM sentiment models on Ray Train, score corpora of reviews on Ray Data."""

__version__ = "0.2.0"
