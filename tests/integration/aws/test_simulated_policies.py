"""IAM policies as an independent simulator evaluates them."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.policies import Request, allowed, parse_policy
from tests.policy_simulator import Simulate

ACCOUNT = "123456789012"
QUEUE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:queue-1"
RULE = f"arn:aws:events:us-east-1:{ACCOUNT}:rule/bus/rule-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/path/role-1"
SERVICE = "events.amazonaws.com"
CONTEXT = {"aws:SourceArn": RULE, "aws:SourceAccount": ACCOUNT, "aws:SecureTransport": "true"}
# We may give no answer about these.
OPEN = re.compile(r'assumed-role|"Service": \[?[^]]*"\*"|canonical|aws:SourceOrgID|ArnNot')


def _some(values: list[str]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values) | st.lists(st.sampled_from(values), max_size=3)


ACTIONS = _some(["sqs:SendMessage", "sqs:*", "SQS:sendmess*", "sqs:Receive*", "*", "sqs:SendMessag?", "s3:*"])
# Without a `*` that matches more than one component: the simulator does not know it, AWS documents it.
RESOURCES = _some(
    [
        QUEUE,
        "*",
        f"arn:aws:sqs:*:{ACCOUNT}:queue-*",
        "arn:aws:sqs:us-east-?:*:*",
        "arn:*:sqs:*:*:*-1",
        f"{QUEUE}-dlq",
        "arn:aws:sqs:eu-*:*:queue-1",
        "arn:aws:sqs:*",
        "arn:aws:sqs:us-east-1:1*2:*[q]ueue-1",
    ]
)
PRINCIPALS = (
    st.just("*")
    | st.dictionaries(
        st.sampled_from(["AWS"]),
        _some(
            [
                "*",
                ROLE,
                ACCOUNT,
                f"arn:aws:iam::{ACCOUNT}:root",
                "arn:aws:iam::210987654321:root",
                f"{ROLE}-2",
                f"arn:aws:sts::{ACCOUNT}:assumed-role/role-1/session",
            ]
        ),
        min_size=1,
    )
    | st.fixed_dictionaries({"Service": _some([SERVICE, "sns.amazonaws.com", "*"])})
    | st.fixed_dictionaries({"Federated": st.sampled_from(["*", "accounts.google.com"])})
    | st.fixed_dictionaries({"CanonicalUser": st.sampled_from(["*", "canonical"])})
)
ARNS = [
    "arn:aws:events:*:*:rule/*",
    RULE,
    f"{RULE}-2",
    "arn:aws:events:*",
    "arn:*:*:*:1*:*1",
    "arn:aws:events:us:1:rule/*",
]
CONDITIONS = st.dictionaries(
    st.from_regex(
        r"(For(AllValues|AnyValue):)?(String(Not)?(Equals(IgnoreCase)?|Like)|Arn(Not)?(Equals|Like))(IfExists)?",
        fullmatch=True,
    ),
    st.dictionaries(
        st.sampled_from(["aws:SourceArn", "AWS:sourcearn", "aws:SourceOrgID"]),
        st.lists(st.sampled_from(ARNS), min_size=1, max_size=2),
        max_size=1,
    )
    | st.fixed_dictionaries({"aws:SourceAccount": st.sampled_from([ACCOUNT, "1*", "210987654321", "?"])}),
    max_size=2,
) | st.sampled_from(
    [
        {"Null": {"aws:SourceArn": "true"}},
        {"Null": {"aws:SourceArn": "false"}},
        {"Bool": {"aws:SecureTransport": "false"}},
        {"Bool": {"aws:SecureTransport": ["true"]}},
    ]
)


def _statements(**elements: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    every = {"Effect": st.sampled_from(["Allow", "Allow", "Deny"]), **elements}
    action, other = st.fixed_dictionaries({"Action": ACTIONS}), st.fixed_dictionaries({"NotAction": ACTIONS})
    resource = st.fixed_dictionaries({"Resource": RESOURCES}) | st.fixed_dictionaries({"NotResource": RESOURCES})
    return st.lists(
        st.builds(
            lambda *parts: {name: value for part in parts for name, value in part.items()},
            st.fixed_dictionaries(every, optional={"Condition": CONDITIONS}),
            action | other,
            resource,
        ),
        max_size=3,
    )


@given(st.sampled_from([SERVICE, ROLE]), _statements(Principal=PRINCIPALS), _statements())
def test_a_verdict_is_the_simulators(
    simulate: Simulate, caller: str, of_queue: list[dict[str, Any]], of_role: list[dict[str, Any]]
) -> None:
    documents = [{"Version": "2012-10-17", "Statement": of_queue}]
    if caller == ROLE:
        documents.append({"Version": "2012-10-17", "Statement": of_role})
    request = {"principal": caller, "action": "sqs:SendMessage", "contextVariables": CONTEXT}
    theirs = simulate(
        {
            "request": {**request, "resource": {"resource": QUEUE, "accountId": ACCOUNT}},
            "resourcePolicy": documents[0],
            "identityPolicies": [{"name": "own", "policy": document} for document in documents[1:]],
        }
    )
    assert isinstance(theirs, bool), theirs
    who = {"role_arn": ROLE} if caller == ROLE else {"service": SERVICE}
    context = {key.lower(): value for key, value in CONTEXT.items()}
    ours = allowed(list(map(parse_policy, documents)), Request("sqs:SendMessage", QUEUE, context=context, **who))
    if ours is None:
        assert OPEN.search(json.dumps(documents))
    else:
        assert ours is theirs
