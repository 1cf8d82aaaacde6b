"""Issues and notes in GitLab, kept up to date: what is found again, errors, rate limits, jobs at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, UsageError
from refinerctl.gitlab import LABEL, Project, marker, project_of
from refinerctl.transport import Limits, TransportError
from tests.gitlab_server import SOMEBODY, TOKEN, GitLabServer, gitlab_server

QUICK = Limits(attempts=4, first_pause_s=0.01, longest_pause_s=0.02, connect_timeout_s=2)
MARK = marker("drift", "production", "refiner")


@pytest.fixture
def server() -> Iterator[GitLabServer]:
    with gitlab_server() as server:
        yield server


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def project(server: GitLabServer, told: list[str]) -> Project:
    return project_of(server.environment(), told.append, QUICK)


class TestIssue:
    def test_is_opened_once_and_updated_only_if_the_text_differs(self, server: GitLabServer, project: Project) -> None:
        assert project.open_issue(MARK, "Drift", "one").action == "opened"
        (issue,) = server.issues
        assert (issue["title"], issue["confidential"], issue["labels"]) == ("Drift", True, [LABEL])
        assert issue["description"] == f"{MARK}\none"

        issue["description"] = f"{MARK}\r\none\r\n"  # as GitLab's editor saves it
        assert project.open_issue(MARK, "Drift", "one").action == "unchanged"
        assert len(server.writes()) == 1
        outcome = project.open_issue(MARK, "Drift", "two")
        assert (outcome.action, outcome.url) == ("updated", issue["web_url"])
        assert server.issues == [issue]
        assert issue["description"].endswith("two")

    def test_is_closed_and_reopened(self, server: GitLabServer, project: Project) -> None:
        assert project.close_issue(MARK).action == "nothing"
        project.open_issue(MARK, "Drift", "one")
        assert project.close_issue(MARK).action == "closed"
        assert server.issues[0]["state"] == "closed"
        assert project.close_issue(MARK).action == "nothing"
        assert project.open_issue(MARK, "Drift", "one").action == "reopened"
        assert [issue["state"] for issue in server.issues] == ["opened"]

    def test_of_another_environment_user_or_label_is_not_touched(self, server: GitLabServer, project: Project) -> None:
        server.add_issue(marker("drift", "dev", "refiner"), labels=LABEL)
        server.add_issue(MARK, labels=LABEL, author=SOMEBODY)
        server.add_issue(MARK, labels="bug")
        before = [dict(issue) for issue in server.issues]
        assert project.close_issue(MARK).action == "nothing"
        assert project.open_issue(MARK, "Drift", "one").action == "opened"
        assert server.issues[:3] == before

    def test_is_found_on_a_later_page(self, server: GitLabServer, project: Project) -> None:
        for number in range(250):
            server.add_issue(marker("drift", f"e{number}", "refiner"), labels=LABEL)
        server.add_issue(f"{MARK}\none", labels=LABEL, title="Drift")
        assert project.open_issue(MARK, "Drift", "one").action == "unchanged"
        assert server.requests == ["GET projects/42/issues"] * 3

    def test_concurrent_jobs_leave_one(self, server: GitLabServer, told: list[str]) -> None:
        """Both look before either has created."""
        both = threading.Barrier(2)
        server.before_create = lambda: both.wait(20)
        projects = [project_of(server.environment(), told.append, QUICK) for _ in range(2)]
        threads = [threading.Thread(target=item.open_issue, args=(MARK, "Drift", "one")) for item in projects]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [issue["state"] for issue in server.issues] == ["opened", "closed"]

    def test_duplicate_of_a_killed_job_is_closed_by_the_next_job(self, server: GitLabServer, project: Project) -> None:
        for _ in range(3):
            server.add_issue(f"{MARK}\none", labels=LABEL, title="Drift")
        assert project.open_issue(MARK, "Drift", "one").action == "unchanged"
        assert [issue["state"] for issue in server.issues] == ["opened", "closed", "closed"]

    def test_lost_response_to_its_creation_leaves_one(self, server: GitLabServer, project: Project) -> None:
        """It was created, but the answer was an error, so that it is created again."""
        server.faults = [None, (502, b"<html>Bad gateway", {})]
        server.add_issue(f"{MARK}\none", labels=LABEL, title="Drift", state="closed")
        server.issues[0]["description"] = "not listed yet"
        server.before_create = lambda: server.issues[0].update(description=f"{MARK}\none", state="opened")
        assert project.open_issue(MARK, "Drift", "one").action == "unchanged"
        assert [issue["state"] for issue in server.issues] == ["opened", "closed"]

    def test_name_of_an_environment_cannot_end_the_marker(self) -> None:
        assert marker("drift", "a --> @all\n/close", "s").count("-->") == 1
        assert "\n" not in marker("drift", "a\nb", "s")
        assert marker("drift", "a b", "c") != marker("drift", "a", "b c")


class TestNote:
    def test_is_created_once_then_replaced(self, server: GitLabServer, project: Project) -> None:
        server.add_note("looks good", author=SOMEBODY)
        server.add_note(f"{MARK}\nforged", author=SOMEBODY)
        assert project.write_note("5", MARK, "one", 11).action == "created"
        assert project.write_note("5", MARK, "two", 12).action == "updated"
        assert [note["body"].splitlines()[-1] for note in server.notes] == ["looks good", "forged", "two"]

    def test_of_a_later_pipeline_is_kept(self, server: GitLabServer, project: Project) -> None:
        project.write_note("5", MARK, "new", 12)
        assert project.write_note("5", MARK, "old", 11).action == "nothing"
        assert server.notes[0]["body"].endswith("new")

    def test_is_found_among_hundreds(self, server: GitLabServer, project: Project) -> None:
        for number in range(205):
            server.add_note(f"remark {number}", author=SOMEBODY)
        project.write_note("5", MARK, "one")
        assert project.write_note("5", MARK, "two").action == "updated"
        assert len(server.notes) == 206

    def test_concurrent_jobs_leave_one(self, server: GitLabServer, told: list[str]) -> None:
        both = threading.Barrier(2)
        server.before_create = lambda: both.wait(20)
        projects = [project_of(server.environment(), told.append, QUICK) for _ in range(2)]
        threads = [threading.Thread(target=item.write_note, args=("5", MARK, "one")) for item in projects]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [note["body"] for note in server.notes] == [f"{MARK}\none"]


class TestErrors:
    def test_rate_limit_is_waited_for(self, server: GitLabServer, project: Project, told: list[str]) -> None:
        server.faults = [(429, b"Retry later\n", {"Retry-After": "0"}), (503, b"", {})]
        assert project.open_issue(MARK, "Drift", "one").action == "opened"
        assert "returned 429" in told[0]
        assert "returned 503" in told[1]

    def test_rate_limit_that_does_not_end_is_an_error(self, server: GitLabServer, project: Project) -> None:
        limit = {"message": {"error": "This endpoint has been requested too many times. Try again later."}}
        server.faults = [(429, limit, {})] * QUICK.attempts
        with pytest.raises(TransportError, match="returned 429"):
            project.open_issue(MARK, "Drift", "one")
        assert server.issues == []

    def test_wrong_token(self, server: GitLabServer) -> None:
        other = project_of({**server.environment(), "GITLAB_TOKEN": "glpat-expired"}, lambda _: None, QUICK)
        with pytest.raises(
            AccessDeniedError, match=r"refused GET projects/42/issues: 401 \(401 Unauthorized\)"
        ) as caught:
            other.close_issue(MARK)
        assert "GITLAB_TOKEN is invalid, expired or revoked" in str(caught.value.hint)
        assert "glpat" not in f"{caught.value} {caught.value.hint}"

    def test_token_with_too_few_rights(self, server: GitLabServer, project: Project) -> None:
        said = {"error": "insufficient_scope", "error_description": "The request requires higher privileges."}
        server.faults = [(403, said, {})]
        with pytest.raises(AccessDeniedError, match=r"403 \(The request requires higher privileges\.\)") as caught:
            project.close_issue(MARK)
        assert "scope api" in str(caught.value.hint)

    def test_merge_request_that_does_not_exist(self, project: Project) -> None:
        with pytest.raises(NotFoundError, match="merge_requests/6/notes: 404"):
            project.write_note("6", MARK, "one")

    def test_request_that_gitlab_does_not_accept(self, server: GitLabServer, project: Project) -> None:
        with pytest.raises(RefinerctlError, match=r"400 .*is too long"):
            project.write_note("5", MARK, "x" * 1_000_001)
        assert server.notes == []

    @pytest.mark.parametrize("answer", [(200, b"<html>login", {}), (200, {"a": 1}, {}), (302, b"", {"Location": "/"})])
    def test_server_that_is_not_gitlab(
        self, server: GitLabServer, project: Project, answer: tuple[int, object, dict[str, str]]
    ) -> None:
        server.faults = [answer]
        with pytest.raises(RefinerctlError, match=r"did not return a response of GitLab's API|: 302"):
            project.close_issue(MARK)

    def test_no_server(self) -> None:
        environ = {"GITLAB_TOKEN": TOKEN, "CI_PROJECT_ID": "42", "CI_API_V4_URL": "http://127.0.0.1:9/api/v4"}
        with pytest.raises(RefinerctlError, match=r"connection to 127\.0\.0\.1:9 failed"):
            project_of(environ, lambda _: None, QUICK).close_issue(MARK)

    def test_plain_http_is_refused(self) -> None:
        environ = {"GITLAB_TOKEN": TOKEN, "CI_PROJECT_ID": "42", "CI_API_V4_URL": "http://gitlab.example/api/v4"}
        with pytest.raises(RefinerctlError, match=r"refusing plain HTTP to gitlab\.example"):
            project_of(environ, lambda _: None, QUICK).close_issue(MARK)

    @pytest.mark.parametrize("url", ["ftp://gitlab.example/api/v4", "gitlab.example/api/v4", "https:/api/v4"])
    def test_address_of_another_kind_is_refused_at_once(self, server: GitLabServer, url: str) -> None:
        with pytest.raises(UsageError, match="invalid CI_API_V4_URL: not an http:// or https:// URL"):
            project_of({**server.environment(), "CI_API_V4_URL": url}, lambda _: None)

    @pytest.mark.parametrize("name", ["GITLAB_TOKEN", "CI_API_V4_URL", "CI_PROJECT_ID"])
    def test_missing_variable_is_named(self, server: GitLabServer, name: str) -> None:
        with pytest.raises(UsageError, match=f"{name} is not set"):
            project_of({**server.environment(), name: ""}, lambda _: None)
