"""HashiCorp's releases of Terraform, or a mirror of them: zip files and their published checksums."""

from __future__ import annotations

import contextlib
import hashlib
import re
import stat
import zipfile
from collections.abc import Callable
from typing import IO, TypeVar
from urllib.parse import urljoin, urlsplit

from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.transport import Limits, Response, Transport, TransportError

MEMBER = "terraform"
# Ten times what it has. A zip may claim a little and hold a lot.
MAX_BINARY_BYTES = 1_000_000_000
MAX_ARCHIVE_BYTES = 500_000_000
CHUNK_BYTES = 256 * 1024
MAX_REDIRECTS = 5

Result = TypeVar("Result")
OnBytes = Callable[[int, int | None], None]


class TerraformReleases:
    """`base_url` holds a folder for each version. TLS everywhere but on this machine.

    `tell` hears of what is tried again.
    """

    def __init__(self, base_url: str, tell: Callable[[str], None], limits: Limits | None = None) -> None:
        if "@" in urlsplit(base_url).netloc:
            raise RefinerctlError("terraform_base_url holds a user name or password, which refinerctl does not use")
        self._base_url = base_url.rstrip("/")
        self._transport = Transport(limits or Limits(attempts=4), tell)

    def checksum(self, version: str, platform: str) -> str:
        """The published SHA-256 of the zip, in hexadecimal. Raises NotFoundError if there is none."""
        name = f"{MEMBER}_{version}_{platform}.zip"
        url = f"{self._base_url}/{version}/{MEMBER}_{version}_SHA256SUMS"
        sums = self._open(url).body.decode("utf-8", errors="replace")
        match = re.search(rf"^([0-9a-fA-F]{{64}})[ \t]+\*?{re.escape(name)}\r?$", sums, re.MULTILINE)
        if match is None:
            raise NotFoundError(f"{url} has no checksum of {name}", hint="Is there a Terraform for this machine?")
        return match[1].lower()

    def download(self, version: str, platform: str, checksum: str, to: IO[bytes], on_bytes: OnBytes) -> None:
        """Write the zip to `to`. `on_bytes` hears how many bytes are there, of how many if that is known.

        Raises RefinerctlError if it is not the file that the checksum is of.
        """
        url = f"{self._base_url}/{version}/{MEMBER}_{version}_{platform}.zip"
        found = self._retried(url, lambda: self._once(url, to, on_bytes))
        if found != checksum:
            raise RefinerctlError(
                f"{url} is not what was published: its SHA-256 is {found}, not {checksum}",
                hint="Nothing was installed. Try again; if it stays so, the mirror or the network alters files.",
            )

    def _once(self, url: str, to: IO[bytes], on_bytes: OnBytes) -> str:
        response = self._open(url)
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        to.seek(0)
        to.truncate()
        digest, done = hashlib.sha256(), 0
        with contextlib.closing(response.chunks(CHUNK_BYTES)) as chunks:
            for chunk in chunks:
                done += len(chunk)
                if done > MAX_ARCHIVE_BYTES:
                    raise RefinerctlError(f"{url} has no end: it is far larger than any release")
                to.write(chunk)
                digest.update(chunk)
                on_bytes(done, total)
        return digest.hexdigest()

    def _open(self, url: str) -> Response:
        """The answer, redirects followed: mirrors keep files elsewhere."""
        asked = url
        for _ in range(MAX_REDIRECTS):
            response = self._get(asked)
            if response.status == 200:
                return response
            location = response.headers.get("Location")
            response.whole()
            if response.status not in (301, 302, 303, 307, 308) or not location:
                break
            asked = urljoin(asked, location)
        if response.status == 404:
            raise NotFoundError(f"there is no {url}", hint="Check the version, and terraform_base_url.")
        raise RefinerctlError(f"{url} cannot be had: the server answers {response.status}")

    def _get(self, url: str) -> Response:
        return self._retried(url, lambda: self._transport.send("GET", url, {}))

    def _retried(self, url: str, once: Callable[[], Result]) -> Result:
        retry = self._transport.retry(urlsplit(url).netloc)
        while True:
            try:
                return once()
            except TransportError as error:
                retry.wait(error)


def unpack(archive: IO[bytes], to: IO[bytes]) -> None:
    """Write the binary in a release's zip to `to`. Raises RefinerctlError for anything that no release holds."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            if strange := next((member.filename for member in members if not _is_plain(member)), None):
                raise RefinerctlError(f"the archive holds {strange!r}, which no release does")
            if MEMBER not in opened.namelist():
                raise RefinerctlError(f"the archive holds no {MEMBER}")
            if opened.getinfo(MEMBER).file_size > MAX_BINARY_BYTES:
                raise RefinerctlError(f"the archive's {MEMBER} is far too large")
            with opened.open(MEMBER) as source:  # reads as much as it says, and checks its CRC
                while chunk := source.read(CHUNK_BYTES):
                    to.write(chunk)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise RefinerctlError(f"the archive cannot be read: {error}") from error


def _is_plain(member: zipfile.ZipInfo) -> bool:
    """A regular file directly in the archive: no folder, no link, no way out."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    name = member.orig_filename
    return kind in (0, stat.S_IFREG) and not re.search(r"[/\\:\0]", name) and name not in (".", "..", "")
