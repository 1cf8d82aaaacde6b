"""The queue with the messages of a redrive, and the queues that they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refinerctl.aws.messages import QueueAddress
from refinerctl.dlq.queues import DlqKind
from refinerctl.dlq.redrive.routes import Origin
from refinerctl.dlq.services import at_queue, find_requested
from refinerctl.errors import RefusedError
from refinerctl.parallel import attempt

if TYPE_CHECKING:
    from refinerctl.app import AppContext


def find_origin(app: AppContext, text: str, *, force: bool = True) -> Origin:
    """A dead-letter queue and its source queues. Raises RefusedError, unless `force`, if it has a DLQ itself."""
    found, service = find_requested(app, text)
    if found.receive_risk and not force:
        raise RefusedError(found.receive_risk, hint="Redrive the DLQ that they move to, or pass --force.")
    if found.kind is not DlqKind.PROCESSING:
        return Origin(found.address, found.kind)
    gone = tuple(source.name for source in found.sources if source.exists is False)
    # RabbitMQ's queues have no ARN; a queue of SQS without one could not be read.
    there = [source for source in found.sources if source.exists is not False and (source.arn or not found.arn)]
    sources = tuple(service.address(source.arn or source.name) for source in there)
    return Origin(found.address, found.kind, sources, gone)


def origin_of_file(app: AppContext, queues: tuple[QueueAddress, ...]) -> Origin:
    """The origin of a file's messages; if it is several queues, or a deleted one, each message must name its source."""
    if len(queues) == 1:
        text = queues[0].arn or queues[0].name
        answer = attempt(lambda: find_origin(at_queue(app, text), text))
        if answer.error is not None and not answer.not_found:
            raise answer.error
        return answer.value or Origin(queues[0], DlqKind.UNKNOWN)
    names = ", ".join(queue.name for queue in queues) or "the file"
    return Origin(QueueAddress(names, "", queues[0].arn if queues else ""), DlqKind.UNKNOWN)
