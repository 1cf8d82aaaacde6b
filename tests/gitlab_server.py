"""A server of GitLab's REST API, as much of it as is needed: issues and notes of one project.

https://docs.gitlab.com/api/issues/, https://docs.gitlab.com/api/notes/, https://docs.gitlab.com/api/rest/#pagination:
PRIVATE-TOKEN (401 with another one), pages of at most 100 with X-Next-Page, 201 for what is created, 204 for what is
deleted, 404 for what does not exist, 400 for a body that is too long. Labels and the scope created_by_me filter.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "glpat-0123456789abcdefghij"
PROJECT = "42"
BOT, SOMEBODY = 7, 8
NOTE_LIMIT, DESCRIPTION_LIMIT = 1_000_000, 1_048_576

Answer = tuple[int, Any, dict[str, str]]


@dataclass
class GitLabServer:
    """`notes` are those of merge request 5. `faults` are given instead of the next answers, one each.

    `before_create` is called before anything is created.
    """

    api_url: str
    issues: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    faults: list[Answer | None] = field(default_factory=list)
    before_create: Callable[[], object] = lambda: None
    mutex: threading.RLock = field(default_factory=threading.RLock)

    def environment(self) -> dict[str, str]:
        """The variables of a job in the project."""
        return {"CI_API_V4_URL": self.api_url, "CI_PROJECT_ID": PROJECT, "GITLAB_TOKEN": TOKEN}

    def writes(self) -> list[str]:
        return [request for request in self.requests if not request.startswith("GET")]

    def add_issue(self, description: str, *, author: int = BOT, labels: str = "", **more: Any) -> dict[str, Any]:
        with self.mutex:
            number = len(self.issues) + 1
            url = f"https://gitlab.example/team/project/-/issues/{number}"
            issue = {
                "id": 1000 + number,
                "iid": number,
                "title": "",
                "description": description,
                "state": "opened",
                "labels": [label for label in labels.split(",") if label],
                "author": {"id": author},
                "web_url": url,
                **more,
            }
            self.issues.append(issue)
            return issue

    def add_note(self, body: str, *, author: int = BOT) -> dict[str, Any]:
        with self.mutex:
            number = max((note["id"] for note in self.notes), default=300) + 1
            note = {"id": number, "body": body, "author": {"id": author}, "system": False}
            self.notes.append(note)
            return note


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _do(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        gitlab = self.server.gitlab
        url = urlsplit(self.path)
        path = url.path.removeprefix("/api/v4/")
        with gitlab.mutex:
            gitlab.requests.append(f"{self.command} {path}")
            fault = gitlab.faults.pop(0) if gitlab.faults else None
        if fault is None and self.headers.get("PRIVATE-TOKEN") != TOKEN:
            fault = 401, {"message": "401 Unauthorized"}, {}
        if fault is None and self.command == "POST":
            gitlab.before_create()
        with gitlab.mutex:
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            given = json.loads(content or b"{}")
            status, document, headers = fault or self._answer(gitlab, path.split("/"), query, given)
        body = b"" if status == 204 else document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _do  # noqa: N815 - the base class's names

    def _answer(self, gitlab: GitLabServer, parts: list[str], query: dict[str, str], given: dict[str, Any]) -> Answer:
        match self.command, parts:
            case "GET", ["user"]:
                return 200, {"id": BOT, "username": "project_42_bot"}, {}
            case "GET", ["projects", "42", "issues"]:
                return self._page([issue for issue in gitlab.issues if _matches(issue, query)], query)
            case "POST", ["projects", "42", "issues"]:
                if len(given["description"]) > DESCRIPTION_LIMIT:
                    return 400, {"message": {"description": ["is too long (maximum is 1048576 characters)"]}}, {}
                return 201, gitlab.add_issue(**given), {}
            case "PUT", ["projects", "42", "issues", number]:
                return self._edit_issue(gitlab, int(number), given)
            case "GET", ["projects", "42", "merge_requests", "5", "notes"]:
                return self._page(gitlab.notes, query)
            case "POST", ["projects", "42", "merge_requests", "5", "notes"]:
                if len(given["body"]) > NOTE_LIMIT:
                    return 400, {"message": {"note": ["is too long (maximum is 1000000 characters)"]}}, {}
                return 201, gitlab.add_note(given["body"]), {}
            case "PUT" | "DELETE", ["projects", "42", "merge_requests", "5", "notes", number]:
                return self._edit_note(gitlab, int(number), given)
        return 404, {"message": "404 Not Found"}, {}

    def _edit_issue(self, gitlab: GitLabServer, number: int, given: dict[str, Any]) -> Answer:
        issue = next(item for item in gitlab.issues if item["iid"] == number)
        event = given.pop("state_event", None)
        issue.update(given, **({"state": {"close": "closed", "reopen": "opened"}[event]} if event else {}))
        return 200, issue, {}

    def _edit_note(self, gitlab: GitLabServer, number: int, given: dict[str, Any]) -> Answer:
        note = next((item for item in gitlab.notes if item["id"] == number), None)
        if note is None:
            return 404, {"message": "404 Note Not Found"}, {}
        if self.command == "DELETE":
            gitlab.notes.remove(note)
            return 204, None, {}
        note.update(given)
        return 200, note, {}

    def _page(self, items: list[dict[str, Any]], query: dict[str, str]) -> Answer:
        size, page = min(int(query.get("per_page", 20)), 100), int(query.get("page", 1))
        ordered = items if query.get("sort") == "asc" else items[::-1]
        following = str(page + 1) if len(ordered) > page * size else ""
        return 200, ordered[(page - 1) * size : page * size], {"X-Next-Page": following, "X-Page": str(page)}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


def _matches(issue: dict[str, Any], query: dict[str, str]) -> bool:
    labels = [label for label in query.get("labels", "").split(",") if label]
    return (
        (query.get("scope") != "created_by_me" or issue["author"]["id"] == BOT)
        and all(label in issue["labels"] for label in labels)
        and query.get("state", "all") in ("all", issue["state"])
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gitlab = GitLabServer(f"http://127.0.0.1:{self.server_port}/api/v4")


@contextmanager
def gitlab_server() -> Iterator[GitLabServer]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.gitlab
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
