"""Login at real registries: basic auth, and a token server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from refinerctl.errors import AccessDeniedError
from refinerctl.registry.client import PULL_AND_PUSH
from refinerctl.transport import Login
from tests.integration.registry.copying import Copier, registry
from tests.registries.docker_registry import PASSWORD, USER, DockerRegistry
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import MakeProxy
from tests.registries.images import push_image, whole
from tests.registries.token_server import TokenServer

OPERATOR = Login(USER, PASSWORD)


@pytest.fixture(autouse=True)
def _fresh(tokens: TokenServer) -> Iterator[None]:
    """Restores the token server after each test, and clears its requests."""
    tokens.requests.clear()
    before = (dict(tokens.accounts), tokens.anonymous, tokens.lifetime)
    yield
    tokens.accounts, tokens.anonymous, tokens.lifetime = before


def test_copy_from_token_server_to_basic_auth(
    token_registry: DockerRegistry, basic_registry: DockerRegistry, tokens: TokenServer, faulty: MakeProxy, unique: str
) -> None:
    image = push_image(token_registry, unique)
    source, target = faulty(token_registry), faulty(basic_registry)
    copier = Copier({source.host: OPERATOR, target.host: OPERATOR})

    copier(f"{source.host}/{unique}:v1", f"{target.host}/{unique}")

    assert whole(basic_registry, unique) == image.digest
    # One 401 each, with the challenge; then each request has a login.
    assert [exchange.status for exchange in (*source.requests, *target.requests)].count(401) == 2
    assert [asked.scopes for asked in tokens.requests] == [(f"repository:{unique}:pull",)]


def test_push_asks_the_token_server_for_push(
    source_registry: DockerRegistry, token_registry: DockerRegistry, tokens: TokenServer, unique: str
) -> None:
    image = push_image(source_registry, unique)
    copier = Copier({token_registry.host: OPERATOR})

    copier(image.reference, f"{token_registry.host}/{unique}")

    assert [asked.scopes for asked in tokens.requests] == [(f"repository:{unique}:pull,push",)]
    assert copier.registry(token_registry.host).repository(unique).manifest("v1").digest == image.digest


def test_mount_asks_for_both_scopes(token_registry: DockerRegistry, tokens: TokenServer, unique: str) -> None:
    image = push_image(token_registry, f"{unique}/from")

    done = Copier({token_registry.host: OPERATOR})(image.reference, f"{token_registry.host}/{unique}/to")

    assert done.blobs_mounted == 3
    both = (f"repository:{unique}/to:pull,push", f"repository:{unique}/from:pull")
    assert both in [asked.scopes for asked in tokens.requests]


def test_anonymous_pull(
    token_registry: DockerRegistry, target_registry: DockerRegistry, tokens: TokenServer, unique: str
) -> None:
    image = push_image(token_registry, unique)
    tokens.anonymous = {unique: "pull"}

    Copier()(image.reference, f"{target_registry.host}/{unique}")

    assert whole(target_registry, unique) == image.digest
    assert [asked.user for asked in tokens.requests] == [None]


def test_identity_token_is_exchanged(token_registry: DockerRegistry, tokens: TokenServer, unique: str) -> None:
    image = push_image(token_registry, unique)
    refresh = tokens.answer("GET", USER, PASSWORD, ())["refresh_token"]
    tokens.requests.clear()
    client = registry(token_registry.host, Login("", identity_token=refresh))

    assert client.repository(unique).manifest("v1").digest == image.digest
    assert [(asked.method, asked.user) for asked in tokens.requests] == [("POST", USER)]


def test_token_is_renewed_before_it_expires(token_registry: DockerRegistry, tokens: TokenServer, unique: str) -> None:
    push_image(token_registry, unique)
    tokens.lifetime = 1
    repository = registry(token_registry.host, OPERATOR).repository(unique)

    repository.find("v1")
    repository.find("v1")
    assert len(tokens.requests) == 1

    time.sleep(0.85)  # the registry itself accepts it for a minute longer
    repository.find("v1")
    assert len(tokens.requests) == 2


def test_revoked_token_is_renewed(
    token_registry: DockerRegistry, tokens: TokenServer, faulty: MakeProxy, unique: str
) -> None:
    image = push_image(token_registry, unique)
    challenge = {"WWW-Authenticate": f'Bearer realm="{tokens.url}/token",service="test-registry"'}
    proxy = faulty(token_registry, Fault(Kind.STATUS, match="GET", status=401, skip=2, headers=challenge))
    repository = registry(proxy.host, OPERATOR).repository(unique)

    assert [repository.manifest("v1").digest for _ in range(3)] == [image.digest] * 3
    assert [exchange.status for exchange in proxy.requests] == [401, 200, 401, 200, 200]
    assert len(tokens.requests) == 2


@pytest.mark.parametrize("login", [None, Login(USER, "wrong-password")], ids=["anonymous", "wrong password"])
def test_denied_login_names_user_and_scope(basic_registry: DockerRegistry, unique: str, login: Login | None) -> None:
    push_image(basic_registry, unique)

    with pytest.raises(AccessDeniedError) as denied:
        registry(basic_registry.host, login).repository(unique).find("v1")

    text = f"{denied.value.message} {denied.value.hint}"
    assert basic_registry.host in text
    assert (USER if login else "anonymous") in text
    assert f"repository:{unique}:pull" in text
    assert "docker login" in text
    assert "wrong-password" not in text


def test_missing_scope_is_named(token_registry: DockerRegistry, tokens: TokenServer, unique: str) -> None:
    image = push_image(token_registry, unique)
    tokens.accounts["reader"] = ("reader-secret", "pull")
    reader = registry(token_registry.host, Login("reader", "reader-secret"))
    repository = reader.repository(unique, PULL_AND_PUSH)
    manifest = repository.manifest("v1")
    assert manifest.digest == image.digest

    with pytest.raises(AccessDeniedError, match=f"'reader' pull and push {unique} .*repository:{unique}:pull,push"):
        repository.push_manifest(manifest, "v2")


def test_wrong_password_at_the_token_server(token_registry: DockerRegistry, tokens: TokenServer, unique: str) -> None:
    with pytest.raises(AccessDeniedError, match=r"token server .* returned 401") as denied:
        registry(token_registry.host, Login(USER, "wrong-password")).repository(unique).tags()

    assert "wrong-password" not in str(denied.value)
    assert len(tokens.requests) == 1
