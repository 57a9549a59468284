"""A server that stands in for Amazon's S3 and IAM."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from pyarrow import fs

S3 = tuple[str, fs.S3FileSystem]  # host:port and a connection of the test's own
BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
_MOTO = """
import os
os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"  # Amazon's own policies exist
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("%s:%d" % server.get_host_and_port(), flush=True)
input()
"""


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """Starts moto's server in a process of its own, with one empty bucket."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", _MOTO], text=True, **pipes) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            direct = fs.S3FileSystem(
                access_key=KEYS["AWS_ACCESS_KEY_ID"],
                secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
                region="us-east-1",
                scheme="http",
                endpoint_override=address,
                allow_bucket_creation=True,
            )
            direct.create_dir(BUCKET)
            yield address, direct
        finally:
            server.kill()
