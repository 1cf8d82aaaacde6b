"""Moving dead letters by receive, send, confirm, delete: choosier than SQS's own redrive, and safe to kill.

    with RedriveJournal.begin(app.settings.work_folder, JournalHeader(...)) as journal:   # or .resume(path)
        moved = redrive.copy(source, queue_at, route, rules, journal, progress)

All of it works in lanes (threads). Each receives, asks `route` about every message, and sends batches of up to ten;
what the target confirmed, entry by entry, is deleted. The journal is on the disk before each of these steps.
"""

from __future__ import annotations

from refinerctl.dlq.redrive.engine import copy
from refinerctl.dlq.redrive.ports import Queue

__all__ = ["Queue", "copy"]
