"""GitLab's REST API: one issue, or one note of a merge request, is kept up to date. Found again by a hidden marker.

https://docs.gitlab.com/api/issues/, https://docs.gitlab.com/api/notes/

GitLab has no request that creates something only if it does not exist. Two jobs at the same time may both create; each
then lists what there is, keeps the oldest and removes the others. So two exist for seconds at most, unless a job is
killed in between: the next run removes what it has left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, UsageError
from refinerctl.transport import Limits, Response, Transport

# A limit per minute, as GitLab has them for notes and issues, is over after the longest pauses.
LIMITS = Limits(first_pause_s=2, longest_pause_s=30, longest_retry_after_s=90, give_up_s=180)

LABEL = "refinerctl-drift"

_PAGE = 100
_TITLE_LENGTH = 255
_SAID_LENGTH = 300
_PIPELINE = re.compile(r"<!-- refinerctl pipeline (\d+) -->")


@dataclass(frozen=True)
class Outcome:
    """What was done: opened, updated, reopened, closed, created, removed, unchanged, or nothing. `url` leads to it."""

    action: str
    url: str = ""


def marker(kind: str, *names: str) -> str:
    """A line that Markdown does not show. No name can end it."""
    return f"<!-- refinerctl {kind} {' '.join(quote(name, safe='') for name in names)} -->"


class Project:
    """The project of a job, with a token that may write its issues and notes. Every method raises RefinerctlError."""

    def __init__(self, api_url: str, project: str, token: str, transport: Transport) -> None:
        self._api = api_url.rstrip("/")
        self._project = f"projects/{quote(project, safe='')}"
        self._headers = {"PRIVATE-TOKEN": token, "Accept": "application/json"}
        self._transport = transport

    @property
    def host(self) -> str:
        return urlsplit(self._api).netloc

    def open_issue(self, mark: str, title: str, text: str) -> Outcome:
        """Open the issue that has `mark`, or create it, with this text. Others with the mark are closed."""
        title, description = title[:_TITLE_LENGTH], f"{mark}\n{text}"
        found = self._issues(mark)
        if not found:
            new = {"title": title, "description": description, "labels": LABEL, "confidential": True}
            created = self._object("POST", f"{self._project}/issues", new)
            found = self._issues(mark) or [created]
            self._close(found[1:])
            if found[0]["iid"] == created["iid"]:
                return Outcome("opened", str(created.get("web_url", "")))
        issue, *others = found
        self._close(others)
        change = {
            **({"description": description} if _lines(issue["description"]) != _lines(description) else {}),
            **({"title": title} if issue["title"] != title else {}),
            **({"state_event": "reopen"} if issue["state"] == "closed" else {}),
        }
        action = "reopened" if "state_event" in change else "updated" if change else "unchanged"
        if change:
            self._object("PUT", f"{self._project}/issues/{issue['iid']}", change)
        return Outcome(action, str(issue.get("web_url", "")))

    def close_issue(self, mark: str) -> Outcome:
        """Close every open issue that has `mark`."""
        closed = self._close(self._issues(mark))
        return Outcome("closed", str(closed[0].get("web_url", ""))) if closed else Outcome("nothing")

    def _close(self, issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Close those of the issues that are open, and return them."""
        still_open = [issue for issue in issues if issue["state"] != "closed"]
        for issue in still_open:
            self._object("PUT", f"{self._project}/issues/{issue['iid']}", {"state_event": "close"})
        return still_open

    def _issues(self, mark: str) -> list[dict[str, Any]]:
        """Of the token's own user, oldest first: anybody could write the mark into an issue of theirs.

        The label finds them without a look at all issues; the mark tells environments and stacks apart.
        """
        query = {"scope": "created_by_me", "labels": LABEL, "state": "all", "order_by": "created_at", "sort": "asc"}
        issues = self._list(f"{self._project}/issues", query)
        found = [issue for issue in issues if mark in _lines(issue.get("description"))]
        return sorted(found, key=lambda issue: int(issue["iid"]))

    def write_note(self, merge_request: str, mark: str, text: str, pipeline: int | None = None) -> Outcome:
        """Create or replace the note that has `mark`, unless it is of a later pipeline. Others with it are deleted.

        A job of an old pipeline that runs again would otherwise replace the note by what is no longer true.
        """
        path = f"{self._project}/merge_requests/{quote(merge_request, safe='')}/notes"
        user = self._object("GET", "user")["id"]
        body = "\n".join([mark, *([f"<!-- refinerctl pipeline {pipeline} -->"] if pipeline else []), text])
        found = self._notes(path, mark, user)
        if not found:
            created = self._object("POST", path, {"body": body})
            found = self._notes(path, mark, user) or [created]
            self._delete_notes(path, found[1:])
            if found[0]["id"] == created["id"]:
                return Outcome("created")
        note, *others = found
        self._delete_notes(path, others)
        if pipeline is not None and _pipeline_of(note["body"]) > pipeline:
            return Outcome("nothing")
        self._object("PUT", f"{path}/{note['id']}", {"body": body})
        return Outcome("updated")

    def _notes(self, path: str, mark: str, user: Any) -> list[dict[str, Any]]:
        """Of the token's own user, oldest first."""
        notes = self._list(path, {"order_by": "created_at", "sort": "asc"})
        found = [note for note in notes if note["author"]["id"] == user and mark in _lines(note.get("body"))]
        return sorted(found, key=lambda note: int(note["id"]))

    def _delete_notes(self, path: str, notes: list[dict[str, Any]]) -> None:
        for note in notes:
            self._request("DELETE", f"{path}/{note['id']}", allowed=(404,))  # another job was faster

    def _list(self, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """All pages: https://docs.gitlab.com/api/rest/#pagination"""
        page = "1"
        while page:
            answer = self._request("GET", f"{path}?{urlencode({**query, 'per_page': _PAGE, 'page': page})}")
            items = self._parsed(answer)
            if not isinstance(items, list):
                raise self._not_gitlab()
            yield from items
            page = answer.headers.get("X-Next-Page", "").strip()

    def _object(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
        document = self._parsed(self._request(method, path, content))
        if not isinstance(document, dict):
            raise self._not_gitlab()
        return document

    def _parsed(self, answer: Response) -> Any:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise self._not_gitlab() from None

    def _not_gitlab(self) -> RefinerctlError:
        return RefinerctlError(f"{self.host} did not return a response of GitLab's API", hint="Check CI_API_V4_URL.")

    def _request(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, allowed: tuple[int, ...] = ()
    ) -> Response:
        headers, body = dict(self._headers), None
        if content is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(content).encode()
        answer = self._transport.fetch(method, f"{self._api}/{path}", headers, body)
        if 200 <= answer.status < 300 or answer.status in allowed:
            return answer
        raise self._failure(f"{method} {path.partition('?')[0]}", answer)

    def _failure(self, request: str, answer: Response) -> RefinerctlError:
        what = f"GitLab at {self.host} refused {request}: {answer.status}{_said(answer.body)}"
        if answer.status == 401:
            hint = "GITLAB_TOKEN is invalid, expired or revoked. CI_JOB_TOKEN cannot be used for issues and notes."
            return AccessDeniedError(what, hint=hint)
        if answer.status == 403:
            hint = "GITLAB_TOKEN needs the scope api and at least the role Reporter in the project."
            return AccessDeniedError(what, hint=hint)
        if answer.status == 404:
            hint = "It does not exist, GITLAB_TOKEN has no access to it, or issues are disabled in the project."
            return NotFoundError(what, hint=hint)
        return RefinerctlError(what)


def _said(body: bytes) -> str:
    """GitLab's own reason: https://docs.gitlab.com/api/rest/troubleshooting/"""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    said = document.get("message") or document.get("error_description") or document.get("error")
    return f" ({said if isinstance(said, str) else json.dumps(said)})"[:_SAID_LENGTH] if said else ""


def _lines(text: str | None) -> list[str]:
    """GitLab's editor ends lines with CRLF."""
    return (text or "").rstrip().splitlines()


def _pipeline_of(text: str) -> int:
    match = _PIPELINE.search(text)
    return int(match[1]) if match else 0


def project_of(environ: Mapping[str, str], tell: Callable[[str], None], limits: Limits = LIMITS) -> Project:
    """The project of this job. Raises UsageError that names the missing variable."""
    needed = {
        "GITLAB_TOKEN": "a project access token with the scope api, as a masked variable; CI_JOB_TOKEN cannot do this",
        "CI_API_V4_URL": "GitLab sets it in a job; elsewhere it is https://<host>/api/v4",
        "CI_PROJECT_ID": "GitLab sets it in a job; elsewhere it is the number or the path of the project",
    }
    for name, what in needed.items():
        if not environ.get(name):
            raise UsageError(f"{name} is not set", hint=f"It is {what}." if name == "GITLAB_TOKEN" else f"{what}.")
    address = urlsplit(environ["CI_API_V4_URL"])
    if address.scheme not in ("http", "https") or not address.netloc:
        raise UsageError("invalid CI_API_V4_URL: not an http:// or https:// URL", hint=f"{needed['CI_API_V4_URL']}.")
    token = environ["GITLAB_TOKEN"].strip()
    if not token.isascii() or not token.isprintable():
        raise UsageError("invalid GITLAB_TOKEN: it contains line breaks or non-ASCII characters")
    return Project(environ["CI_API_V4_URL"], environ["CI_PROJECT_ID"], token, Transport(limits, tell))
