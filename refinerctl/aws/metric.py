"""Where the types of metrics.py were."""

from refinerctl.aws.metrics import DataPoint, Metric

__all__ = ["DataPoint", "Metric"]
