"""Turns CSV and JSON lines into Parquet, block by block, in two passes over the file.

    run.py         convert: the first pass finds the columns and their types, the second writes
      source.py      a file as lines of text: compression, encoding, records of a sane size
      delimited.py   CSV and TSV: lines -> blocks of texts
      json_lines.py  JSON lines, or an array: lines -> blocks of values
      columns.py     which type holds every value of a column; values -> Arrow

Everything is read in this thread by Python's own `csv` and `json`, not by Arrow's readers. Those lose values without a
word (integers beyond 64 bits, leading zeros, what a lone quotation mark swallows), and read ahead on threads that may
still run when the process ends. Python's read 100 MB a second.
"""

from lstm_ray.datasets.convert.run import Converted as Converted
from lstm_ray.datasets.convert.run import convert as convert
