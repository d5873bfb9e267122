"""Reads CloudWatch's embedded metric format, and fails for lines that CloudWatch drops silently.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import time
from collections import defaultdict
from typing import NamedTuple

UNITS = {"Count", "Milliseconds", "Percent", "Seconds"}


class Metric(NamedTuple):
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def of(name: str, **dimensions: str) -> "Metric":
        return Metric(name, tuple(sorted(dimensions.items())))


def metrics(lines: list[dict], namespace: str) -> dict[Metric, list[float]]:
    """Collects all values of each metric."""
    found = defaultdict(list)
    for line in lines:
        if "_aws" not in line:
            continue
        assert abs(line["_aws"]["Timestamp"] / 1000 - time.time()) < 3600, "in milliseconds"
        for directive in line["_aws"]["CloudWatchMetrics"]:
            assert directive["Namespace"] == namespace
            for dimension_set in directive["Dimensions"]:
                assert len(dimension_set) <= 30
                dimensions = {name: line[name] for name in dimension_set}
                assert all(isinstance(value, str) and 0 < len(value) <= 1024 for value in dimensions.values()), dimensions
                for metric in directive["Metrics"]:
                    assert metric["Unit"] in UNITS, metric
                    value = line[metric["Name"]]
                    values = value if isinstance(value, list) else [value]
                    assert 0 < len(values) <= 100 and all(isinstance(value, int | float) for value in values), line
                    found[Metric.of(metric["Name"], **dimensions)] += values
    return dict(found)
