"""Files on local disks and in object stores.

locations.py      paths and URIs, and the filesystem of each
files.py          reads, lists, locks and deletes files; writes them, renamed into place once they are complete
directories.py    replaces a local directory as a whole
inputs.py         the files of an input: path, directory, glob or table
listing.py        lists the files below a directory
tables.py         the live files of Delta and Iceberg tables
parquet.py        opens Parquet input files
formats.py        what a file is that is not Parquet
"""

from lstm_ray.storage.directories import replace_directory as replace_directory
from lstm_ray.storage.files import check_empty as check_empty
from lstm_ray.storage.files import check_writable as check_writable
from lstm_ray.storage.files import delete as delete
from lstm_ray.storage.files import delete_matching as delete_matching
from lstm_ray.storage.files import delete_unfinished as delete_unfinished
from lstm_ray.storage.files import exists as exists
from lstm_ray.storage.files import list_names as list_names
from lstm_ray.storage.files import locked as locked
from lstm_ray.storage.files import move as move
from lstm_ray.storage.files import read_bytes as read_bytes
from lstm_ray.storage.files import sync as sync
from lstm_ray.storage.files import write_bytes as write_bytes
from lstm_ray.storage.files import write_file as write_file
from lstm_ray.storage.files import write_files as write_files
from lstm_ray.storage.locations import absolute as absolute
from lstm_ray.storage.locations import check_options as check_options
from lstm_ray.storage.locations import extend as extend
from lstm_ray.storage.locations import is_local as is_local
from lstm_ray.storage.locations import join as join
from lstm_ray.storage.locations import locate as locate
from lstm_ray.storage.locations import path_of as path_of
from lstm_ray.storage.locations import refuse_keys as refuse_keys
from lstm_ray.storage.locations import with_options as with_options
