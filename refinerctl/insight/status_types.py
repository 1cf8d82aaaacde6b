"""Where the types of stage_status.py were."""

from refinerctl.insight.stage_status import DlqStatus as DeadLetterStatus
from refinerctl.insight.stage_status import FunctionStatus, LastCompletion, PipelineStatus, QueueStatus
from refinerctl.insight.stage_status import StageStatus as RulesetStatus

__all__ = [
    "DeadLetterStatus",
    "FunctionStatus",
    "LastCompletion",
    "PipelineStatus",
    "QueueStatus",
    "RulesetStatus",
]
