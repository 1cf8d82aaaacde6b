"""Lambda: a function's configuration."""

from __future__ import annotations

from refinerctl.clients.aws.session import AwsSession, error_code, explain
from refinerctl.errors import NotFoundError
from refinerctl.models import Function


class Functions:
    """The functions of one account and region."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def get(self, name: str) -> Function:
        """The configuration of `name`. Raises NotFoundError without such a function."""
        try:
            answer = self._session.client("lambda").get_function(FunctionName=name)
        except Exception as error:
            if error_code(error) == "ResourceNotFoundException":
                raise NotFoundError(f"there is no function {name!r}") from error
            raise explain(error, f"function {name}") or error from error
        config = answer["Configuration"]
        image_config = config.get("ImageConfigResponse", {}).get("ImageConfig", {})
        return Function(
            name=config["FunctionName"],
            arn=config["FunctionArn"],
            version=config.get("Version", "$LATEST"),
            image_uri=answer.get("Code", {}).get("ImageUri", ""),
            memory_mb=config.get("MemorySize", 128),
            timeout_s=config.get("Timeout", 3),
            environment=dict(config.get("Environment", {}).get("Variables", {})),
            command=tuple(image_config.get("Command", [])),
            revision=config.get("RevisionId", config.get("LastModified", "")),
        )
