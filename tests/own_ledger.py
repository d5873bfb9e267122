"""A second ledger of the deployed stack, with its answers written by the deployed function.

All functions that share a ledger share the circuit, too. Concurrent tests that make Coiote unavailable have a ledger each.
"""

from stack.local_stack import LocalStack


class OwnLedger:
    def __init__(self, stack: LocalStack, name: str):
        self._aws, self.table = stack.aws, name
        deployed = self._aws.dynamodb.describe_table(TableName=stack.outputs["RequestsTable"])["Table"]
        indexes = [
            {part: index[part] for part in ("IndexName", "KeySchema", "Projection")}
            for index in deployed["GlobalSecondaryIndexes"]
        ]
        made = self._aws.dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=deployed["AttributeDefinitions"],
            KeySchema=deployed["KeySchema"],
            GlobalSecondaryIndexes=indexes,
            StreamSpecification=deployed["StreamSpecification"],
        )["TableDescription"]
        self._mapping = self._aws.lambda_.create_event_source_mapping(
            EventSourceArn=made["LatestStreamArn"],
            FunctionName=stack.outputs["AnswersFunction"],
            StartingPosition="TRIM_HORIZON",
            BatchSize=50,
            MaximumBatchingWindowInSeconds=0,
        )["UUID"]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a function that uses this ledger."""
        return {"REQUESTS_TABLE": self.table}

    def forget_outages(self) -> None:
        self._aws.forget_outages(self.table)

    def remove(self) -> None:
        self._aws.lambda_.delete_event_source_mapping(UUID=self._mapping)
        self._aws.dynamodb.delete_table(TableName=self.table)
