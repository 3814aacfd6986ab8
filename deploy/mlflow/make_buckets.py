"""``python make_buckets.py BUCKET …``: make the buckets of an S3 store that are not there yet.

Address and credentials are boto3's own: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``.
"""

import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError

_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 2.0


def make(bucket: str) -> None:
    """Make a bucket, unless it is there."""
    client = boto3.client("s3")
    if bucket in [found["Name"] for found in client.list_buckets()["Buckets"]]:
        print(f"{bucket}: is there")
        return
    client.create_bucket(Bucket=bucket)
    print(f"{bucket}: made")


def main() -> int:
    """Make all buckets, waiting for a store that has only been started."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for bucket in sys.argv[1:]:
        while True:
            try:
                make(bucket)
                break
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > deadline:
                    print(f"{bucket}: cannot be made ({error})", file=sys.stderr)
                    return 1
                time.sleep(_PAUSE_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
