"""Converts CSV and JSON lines to Parquet, block by block, in two passes over the file.

    run.py         convert: the first pass determines the columns and their types, the second writes
      source.py      a file as lines of text: decompression, encoding, limits on the length of a line
      delimited.py   CSV and TSV: lines -> blocks of strings
      json_lines.py  JSON lines, or an array: lines -> blocks of values
      columns.py     which type holds every value of a column; values -> Arrow
    next_step.py   the command that the file is for

Files are read in this thread with Python's `csv` and `json`. Arrow's readers silently lose values (integers beyond 64
bits, leading zeros, what follows an unclosed quotation mark). Arrow's CSV reader also reads ahead in a thread, which
may be the last one to hold the reader, and then frees its Python objects (a file, the decoder of an encoding). If the
interpreter exits at that moment, it ends the thread in the middle of a C++ destructor, and C++ ends the process:
"terminate called without an active exception", exit code 134.
"""

from lstm_ray.datasets.convert.run import Converted as Converted
