"""The command line: one file per command, each parses, calls one function, and prints.

Importing this package imports all commands, and the settings that their options are built from. What a command works
with (TensorFlow, Ray, numpy, pyarrow) is imported when it runs.
"""

from lstm_ray.cli.process import main

__all__ = ["main"]
