"""Running real servers that speak as the object stores of Amazon, Google and Azure do."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.servers import s3servers
from tests.support.servers.s3servers import free_port, serving
from tools.cloudservers import azurite_path, gcs_path

SCHEMES = ("s3", "gs", "as")
AZURE_KEY = "dGVzdC1rZXk="  # of the account `test`, which azurite is told to have


@dataclass(frozen=True)
class Cloud:
    """A server that runs, with a bucket called `data`. Its own client library looks at it, past what is tested."""

    scheme: str
    environment: dict[str, str]
    """What the daemon needs to find it."""
    client: Any

    def url(self, key: str, bucket: str = "data") -> str:
        """The address of an object."""
        return f"{self.scheme}://{bucket}/{key}"

    def make_bucket(self, name: str) -> None:
        """Create a bucket."""
        if self.scheme == "s3":
            self.client.create_bucket(Bucket=name)
        elif self.scheme == "gs":
            self.client.create_bucket(name)
        else:
            self.client.create_container(name)

    def put(self, key: str, data: bytes, bucket: str = "data") -> None:
        """Store an object."""
        if self.scheme == "s3":
            self.client.put_object(Bucket=bucket, Key=key, Body=data)
        elif self.scheme == "gs":
            self.client.bucket(bucket).blob(key).upload_from_string(data)
        else:
            self.client.get_blob_client(bucket, key).upload_blob(data, overwrite=True)

    def content(self, prefix: str, bucket: str = "data") -> dict[str, bytes]:
        """The objects whose keys begin with `prefix`."""
        if self.scheme == "s3":
            listed = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
            keys = [one["Key"] for one in listed]
            return {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
        if self.scheme == "gs":
            return {blob.name: blob.download_as_bytes() for blob in self.client.list_blobs(bucket, prefix=prefix)}
        container = self.client.get_container_client(bucket)
        names = [blob.name for blob in container.list_blobs(name_starts_with=prefix)]
        return {name: container.download_blob(name).readall() for name in names}


@contextlib.contextmanager
def cloud(scheme: str, directory: pathlib.Path) -> Iterator[Cloud]:
    """A server for a scheme; skips where the program is not here."""
    with {"s3": _moto, "gs": _fake_gcs, "as": _azurite}[scheme](directory) as made:
        if scheme != "s3":  # which comes with one
            made.make_bucket("data")
        yield made


@contextlib.contextmanager
def _moto(_directory: pathlib.Path) -> Iterator[Cloud]:
    with s3servers.moto() as server:
        yield Cloud("s3", server.environment, s3servers.client(server))


@contextlib.contextmanager
def _fake_gcs(_directory: pathlib.Path) -> Iterator[Cloud]:
    program = gcs_path()
    if program is None:
        pytest.skip("fake-gcs-server is not here: python -m tools.cloudservers builds it")
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    port = free_port()
    own = f"http://127.0.0.1:{port}"
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-log-level", "error"]
    with serving([str(program), *options, "-external-url", own, "-public-host", f"127.0.0.1:{port}"], port) as endpoint:
        credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        client = storage.Client("test", credentials=credentials, client_options={"api_endpoint": endpoint})
        yield Cloud("gs", {"STORAGE_EMULATOR_HOST": endpoint}, client)


@contextlib.contextmanager
def _azurite(directory: pathlib.Path) -> Iterator[Cloud]:
    program = azurite_path()
    if program is None:
        pytest.skip("azurite is not here: python -m tools.cloudservers gets it")
    from azure.storage.blob import BlobServiceClient

    port = free_port()
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(directory / "azurite")]
    flags = ["--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    accounts = {"AZURITE_ACCOUNTS": f"test:{AZURE_KEY}"}
    with serving([str(program), *options, *flags], port, environment=accounts) as endpoint:
        text = f"DefaultEndpointsProtocol=http;AccountName=test;AccountKey={AZURE_KEY};BlobEndpoint={endpoint}/test;"
        yield Cloud("as", {"AZURE_STORAGE_CONNECTION_STRING": text}, BlobServiceClient.from_connection_string(text))
