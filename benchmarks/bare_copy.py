"""Copies an image between two registries on loopback with as little work as possible: the time of the registries alone.

`python -I -S bare_copy.py HOST/REPOSITORY:TAG HOST/REPOSITORY:TAG`. One thread for each blob; the kernel moves the
bytes from socket to socket (splice). Without checks, retries, login and TLS: not for real copies.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from fcntl import fcntl

PIPE_BYTES = 1 << 20
TYPE = "application/vnd.docker.distribution.manifest.v2+json"
ACCEPT = f"Accept: {TYPE}, application/vnd.oci.image.manifest.v1+json"
F_SETPIPE_SZ = 1031


def connect(host: str) -> socket.socket:
    name, _, port = host.partition(":")
    return socket.create_connection((name, int(port)))


def request(to: socket.socket, host: str, head: str, *headers: str, body: bytes = b"") -> None:
    to.sendall("\r\n".join((f"{head} HTTP/1.1", f"Host: {host}", *headers, "", "")).encode() + body)


def answer(of: socket.socket) -> tuple[str, bytes]:
    """The head of a response, and the part of its body that came with it."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += of.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode(), body


def field(head: str, name: str) -> str:
    found = re.search(rf"(?im)^{name}: *(.*?)\r?$", head)
    return found[1] if found else "0"


def whole(of: socket.socket) -> tuple[str, bytes]:
    head, body = answer(of)
    while len(body) < int(field(head, "Content-Length")):
        body += of.recv(65536)
    return head, body


def copy_blob(source: tuple[str, str], target: tuple[str, str], digest: str, size: int) -> None:
    (source_host, source_path), (target_host, target_path) = source, target
    reading, writing = connect(source_host), connect(target_host)
    request(reading, source_host, f"GET /v2/{source_path}/blobs/{digest}")
    request(writing, target_host, f"POST /v2/{target_path}/blobs/uploads/", "Content-Length: 0")
    location = field(whole(writing)[0], "Location").partition(target_host)[2]
    joint = "&" if "?" in location else "?"
    put = f"PUT {location}{joint}digest={digest}"
    request(writing, target_host, put, f"Content-Length: {size}", "Content-Type: application/octet-stream")
    first = answer(reading)[1]
    writing.sendall(first)
    left, (pipe_out, pipe_in) = size - len(first), os.pipe()
    fcntl(pipe_in, F_SETPIPE_SZ, PIPE_BYTES)
    while left:
        moved = os.splice(reading.fileno(), pipe_in, min(left, PIPE_BYTES))
        left -= moved
        while moved:
            moved -= os.splice(pipe_out, writing.fileno(), moved)
    assert " 201 " in whole(writing)[0]


def main(source: str, target: str) -> None:
    source_host, source_path, source_tag = re.fullmatch(r"(.*?)/(.*):(.*)", source).groups()  # type: ignore[union-attr]
    target_host, target_path, target_tag = re.fullmatch(r"(.*?)/(.*):(.*)", target).groups()  # type: ignore[union-attr]
    reading, writing = connect(source_host), connect(target_host)
    request(reading, source_host, f"GET /v2/{source_path}/manifests/{source_tag}", ACCEPT)
    head, manifest = whole(reading)
    document = json.loads(manifest)
    blobs = {blob["digest"]: blob["size"] for blob in (document["config"], *document["layers"])}
    copies = [
        threading.Thread(target=copy_blob, args=((source_host, source_path), (target_host, target_path), *blob))
        for blob in blobs.items()
    ]
    for copy in copies:
        copy.start()
    for copy in copies:
        copy.join()
    kind = field(head, "Content-Type")
    put = f"PUT /v2/{target_path}/manifests/{target_tag}"
    request(writing, target_host, put, f"Content-Type: {kind}", f"Content-Length: {len(manifest)}", body=manifest)
    assert " 201 " in whole(writing)[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
