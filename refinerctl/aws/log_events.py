"""Where the types of logs.py were."""

from refinerctl.aws.logs import LogEvent
from refinerctl.aws.logs import LogGroups as LogSource

__all__ = ["LogEvent", "LogSource"]
