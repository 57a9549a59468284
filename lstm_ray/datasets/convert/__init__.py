"""Turns CSV and JSON lines into Parquet, block by block, in two passes over the file.

    run.py         convert: the first pass finds the columns and their types, the second writes
      source.py      a file as lines of text: compression, encoding, records of a sane size
      delimited.py   CSV and TSV: lines -> blocks of texts
      json_lines.py  JSON lines, or an array: lines -> blocks of values
      columns.py     which type holds every value of a column; values -> Arrow
    next_step.py   what training on the file must be told

Everything is read in this thread by Python's own `csv` and `json`. Arrow's readers lose values without a
word (integers beyond 64 bits, leading zeros, what a lone quotation mark swallows). Its CSV reader also reads ahead on a
thread of its own, and that thread may be the last to hold the reader: what is Python's in it (a file, the decoder of an
encoding) is then freed there. If Python is ending at that moment, it ends the thread in the middle of a C++ destructor,
and C++ ends the process: "terminate called without an active exception", exit code 134.
"""

from lstm_ray.datasets.convert.run import Converted as Converted
from lstm_ray.datasets.convert.run import convert as convert
