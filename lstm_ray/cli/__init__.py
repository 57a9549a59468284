"""The command line: one file per command, each parses, calls one function, and prints.

Importing this package imports no command. A command's module is imported when it is called or asked for help, and what
it needs (TensorFlow, Ray, pyarrow) only when it runs.
"""

from lstm_ray.cli.process import main

__all__ = ["main"]
