"""IAM policies: AWS's evaluation rules, as far as the pipeline's policies need them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.policies import Request, allowed, delegates, denied, granted, like, parse_policy

RULE = "arn:aws:events:us-east-1:123456789012:rule/data-repository-bus/dibbs-ecr-RefinerInput"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:dibbs-ecr-RefinerInput"
ROLE = "arn:aws:iam::123456789012:role/dibbs-ecr-RefinerInput"
SEND = Request(
    "sqs:SendMessage",
    QUEUE,
    service="events.amazonaws.com",
    context={"aws:sourcearn": RULE, "aws:sourceaccount": "123456789012", "aws:securetransport": "true"},
)


def statement(**change: Any) -> dict[str, Any]:
    base = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": QUEUE,
    }
    return {key: value for key, value in {**base, **change}.items() if value is not None}


def sends(*statements: dict[str, Any]) -> bool | None:
    return allowed([parse_policy(json.dumps({"Statement": list(statements)}))], SEND)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, True),
        ({"Action": ["sqs:sendmessage"]}, True),
        ({"Action": "sqs:*"}, True),
        ({"Action": "SQS:Send*"}, True),
        ({"Action": "sqs:ReceiveMessage"}, False),
        ({"Action": None, "NotAction": "sqs:DeleteQueue"}, True),
        ({"Action": None, "NotAction": "sqs:*"}, False),
        ({"Action": []}, False),
        ({"Action": None, "NotAction": []}, True),
        ({"Action": None}, None),
        ({"NotAction": "sqs:DeleteQueue"}, None),
        ({"Action": "*"}, True),
        ({"Action": "s*:SendMessage"}, None),
        ({"Action": "*Message"}, None),
        ({"Action": "*Queue"}, False),
        ({"Action": ["${x}", "sqs:SendMessage"]}, True),
        ({"Resource": "*"}, True),
        ({"Resource": "arn:aws:sqs:*:123456789012:dibbs-ecr-*"}, True),
        ({"Resource": f"{QUEUE}-dlq"}, False),
        ({"Resource": None, "NotResource": QUEUE}, False),
        ({"Resource": "arn:aws:sqs:*:*:${aws:username}"}, None),
        ({"Resource": ["arn:aws:sqs:*:*:${aws:username}", QUEUE]}, True),
        ({"Resource": []}, False),
        ({"Resource": None, "NotResource": []}, True),
        ({"NotResource": "arn:aws:sqs:::x"}, None),
        # Only a `*` at the end of a component matches what follows.
        ({"Resource": "arn:aws:sqs:*"}, True),
        ({"Resource": "arn:aws:sqs:*:dibbs-ecr-RefinerInput"}, True),
        ({"Resource": "arn:aws:sqs:us-*"}, True),
        ({"Resource": "arn:aws:sqs:us*1:123456789012:dibbs-ecr-*"}, True),
        ({"Resource": "arn:aws:sqs:us*RefinerInput"}, None),
        ({"Resource": "arn:aws:sqs:us-east-1?123456789012:dibbs-ecr-RefinerInput"}, None),
        ({"Resource": "arn:aws:sqs:us*RefinerOutput"}, False),
        ({"Resource": "arn:aws:sqs"}, None),
        ({"Resource": "arn:aws:s3"}, False),
        ({"Resource": "arn:aws:s*:us-east-1:123456789012:dibbs-ecr-RefinerInput"}, None),
        ({"Principal": "*"}, True),
        ({"Principal": {"AWS": "*"}}, True),
        ({"Principal": {"AWS": "123456789012"}}, False),
        ({"Principal": {"AWS": "x123456789012"}}, False),
        ({"Principal": {"Service": "*"}}, None),
        ({"Principal": {"Service": "events.*"}}, False),
        ({"Principal": {"Federated": "*"}}, False),
        ({"Principal": {"CanonicalUser": "*"}}, False),
        ({"Principal": {"Other": "*"}}, None),
        ({"Principal": {}}, False),
        ({"Principal": {"AWS": []}}, False),
        ({"Principal": "123456789012"}, None),
        ({"Effect": "allow"}, None),
        ({"Principal": {"Service": ["lambda.amazonaws.com", "events.amazonaws.com"]}}, True),
        ({"Principal": {"Service": "sns.amazonaws.com"}}, False),
        ({"Effect": "Deny"}, False),
        ({"NotPrincipal": {"AWS": "x"}}, None),
    ],
)
def test_elements_of_a_statement(change: dict[str, Any], verdict: bool | None) -> None:
    assert sends(statement(**change)) is verdict


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ({"ArnEquals": {"aws:SourceArn": RULE}}, True),
        ({"ArnLike": {"AWS:SOURCEARN": "arn:aws:events:*:*:rule/data-repository-bus/*"}}, True),
        ({"ArnEquals": {"aws:SourceArn": "arn:aws:events:us-east-1:123456789012:rule/*"}}, True),
        ({"ArnEquals": {"aws:SourceArn": "arn:aws:events:*"}}, False),  # component by component
        ({"StringLike": {"aws:SourceArn": "arn:aws:events:*"}}, True),
        ({"StringEquals": {"aws:SourceArn": "arn:aws:events:*"}}, False),
        ({"ArnEquals": {"aws:SourceArn": [f"{RULE}x", RULE]}}, True),
        ({"ArnEquals": {"aws:SourceArn": f"{RULE}x"}}, False),
        ({"ArnNotLike": {"aws:SourceArn": f"{RULE}x"}}, True),
        ({"StringNotEquals": {"aws:SourceAccount": "123456789012"}}, False),
        ({"StringEquals": {"aws:SourceAccount": "123456789012"}, "ArnLike": {"aws:SourceArn": "x"}}, False),
        ({"Bool": {"aws:SecureTransport": True}}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, False),
        ({"StringEqualsIfExists": {"aws:SourceAccount": "123456789012"}}, True),
        ({"Null": {"aws:SourceArn": "false"}}, True),
        ({"Null": {"aws:SourceArn": "true"}}, False),
        ({"Null": {"aws:SourceOrgID": "true"}}, None),
        ({"NullIfExists": {"aws:SourceArn": "false"}}, None),
        ({"ForAllValues:StringEquals": {"aws:SourceAccount": ["1", "123456789012"]}}, True),
        ({"ForAnyValue:StringNotLike": {"aws:SourceAccount": "123*"}}, False),
        ({"ForAllValues:StringEquals": {"aws:SourceOrgID": "o-1"}}, None),
        ({"ForSomeValues:StringEquals": {"aws:SourceAccount": "1"}}, None),
        ({"StringEquals": {"aws:SourceAccount": []}}, False),
        ({"StringNotEquals": {"aws:SourceAccount": []}}, True),
        ({"StringNotEqualsIgnoreCaseIfExists": {"aws:SourceAccount": "1"}}, True),
        ({"ArnNotEquals": {"aws:SourceArn": "arn:aws:events:us-east-1:*:rule/*"}}, False),
        ({"ArnLike": {"aws:SourceAccount": "arn:aws:sns:us-east-1:123456789012:x"}}, False),
        ({"ArnLike": {"aws:SourceArn": "*"}}, None),
        ({"ArnNotLike": {"aws:SourceArn": ["arn:aws:events:*", RULE]}}, None),
        ({"ArnNotLike": {"aws:SourceAccount": RULE}}, None),
        ({"BoolNot": {"aws:SecureTransport": "true"}}, None),
        ({"StringLike": {"aws:SourceAccount": ["${aws:PrincipalAccount}", "12*"]}}, True),
        ({"StringNotLike": {"aws:SourceAccount": ["${aws:PrincipalAccount}", "12*"]}}, False),
        ({"StringEquals": {"aws:SourceOrgID": "o-1"}}, None),
        ({"DateLessThan": {"aws:SourceAccount": "2026-01-01"}}, None),
        ({"StringLike": {"aws:SourceAccount": "${aws:PrincipalAccount}"}}, None),
        ({"StringEquals": {"aws:SourceOrgID": "o-1"}, "ArnLike": {"aws:SourceArn": "x"}}, False),
    ],
)
def test_condition_operators(condition: dict[str, Any], verdict: bool | None) -> None:
    assert sends(statement(Condition=condition)) is verdict


def test_a_denial_wins_and_a_possible_denial_gives_no_answer() -> None:
    assert sends(statement(), statement(Effect="Deny", Principal="*")) is False
    open_question = statement(Effect="Deny", Condition={"StringNotEquals": {"aws:SourceVpce": "vpce-1"}})
    assert sends(statement(), open_question) is None
    assert sends(open_question) is False  # nothing allows it either way
    assert sends(statement(), statement(Effect="Deny", Condition={"Bool": {"aws:SecureTransport": "false"}})) is True


def test_without_statements_nothing_is_allowed() -> None:
    assert allowed([parse_policy(None), parse_policy("")], SEND) is False


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"Statement": [1]}', '{"Statement": [{"Action": "*"}]}'])
def test_unreadable_documents_give_no_answer(text: str) -> None:
    assert allowed([parse_policy(text)], SEND) is None
    # It may deny what another one allows.
    assert allowed([parse_policy(text), parse_policy({"Statement": statement()})], SEND) is None


@pytest.mark.parametrize(
    ("principal", "allowing", "denying"),
    [
        ({"AWS": ROLE}, True, True),
        ("*", True, True),
        ({"AWS": "*"}, True, True),
        ({"AWS": "123456789012"}, False, True),
        ({"AWS": "arn:aws:iam::123456789012:root"}, False, True),
        ({"AWS": "arn:aws:iam::210987654321:root"}, False, False),
        ({"AWS": f"{ROLE}*"}, False, False),
        ({"AWS": "arn:aws:sts::123456789012:assumed-role/dibbs-ecr-RefinerInput/session"}, None, None),
        ({"AWS": "arn:aws:sts::123456789012:assumed-role/dibbs-ecr/session"}, False, False),
        ({"AWS": "arn:aws:sts::210987654321:assumed-role/dibbs-ecr-RefinerInput/session"}, False, False),
        ({"CanonicalUser": "79a5"}, False, None),
        ({"CanonicalUser": "*"}, False, False),
        ({"Federated": "cognito-identity.amazonaws.com"}, False, False),
        ({"Federated": "*"}, False, False),
        ({"Service": "*"}, False, False),
        ({"Service": "lambda.amazonaws.com"}, False, False),
    ],
)
def test_principals_that_are_a_role(principal: Any, allowing: bool | None, denying: bool | None) -> None:
    request = Request("sqs:SendMessage", QUEUE, role_arn=ROLE)
    policy = parse_policy({"Statement": statement(Principal=principal)})
    denial = parse_policy({"Statement": statement(Principal=principal, Effect="Deny")})
    assert granted([policy], request) is allowing
    assert denied([denial], request) is denying


def test_a_statement_that_is_not_in_a_list_applies_to_a_role() -> None:
    policy = parse_policy({"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}})
    request = Request("s3:GetObject", "arn:aws:s3:::b/x", role_arn=ROLE)
    assert allowed([policy], request) is True
    named = parse_policy(json.dumps({"Statement": statement(Principal={"AWS": ROLE}, Action="*", Resource="*")}))
    assert allowed([named], request) is True
    assert allowed([named], replace(request, role_arn=f"{ROLE}x")) is False


def test_a_key_policy_delegates_to_the_account() -> None:
    root = statement(Principal={"AWS": "arn:aws:iam::123456789012:root"}, Action="kms:*", Resource="*")
    policy = parse_policy({"Statement": [root]})
    assert delegates(policy, "123456789012", "kms:Decrypt") is True
    assert delegates(policy, "210987654321", "kms:Decrypt") is False
    assert delegates(policy, "123456789012", "sqs:SendMessage") is False
    conditional = parse_policy({"Statement": [{**root, "Condition": {"Bool": {"aws:SecureTransport": "true"}}}]})
    assert delegates(conditional, "123456789012", "kms:Decrypt") is None
    assert delegates(parse_policy("{"), "123456789012", "kms:Decrypt") is None
    assert delegates(parse_policy({"Statement": [{**root, "Action": []}]}), "123456789012", "kms:Decrypt") is False


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_wildcards(before: str, middle: str, after: str) -> None:
    literal = "".join(char for char in before if char not in "*?")
    assert like(f"{literal}*", literal + middle)
    assert like(literal, literal)
    assert not like(literal, f"{literal}x{after}")
    assert like(f"{literal}?", f"{literal}x")
    assert not like(f"{literal}?", literal)
