"""What the gateway's own description promises, asked by a program that reads it."""

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from .target import Target

NOT_ASKED = [ignored_auth, negative_data_rejection, positive_data_acceptance]
"""The first two take the key that goes beside a request for a part of it that was to be wrong; no
schema can tell which characters are printable, nor what is an image.
"""


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_answer_is_as_described(target: Target, mode: str) -> None:
    schema = schemathesis.openapi.from_url(f"{target.stack.url}/openapi.json")
    if mode == "negative":  # where nothing is asked for, nothing can be asked wrongly
        schema = schema.include(tag="videos")
    headers = {"authorization": f"Bearer {target.key}"}
    operations = [found.ok() for found in schema.get_all_operations()]
    assert "POST /v1/videos" in {operation.label for operation in operations}
    asked = set()
    for operation in operations:

        @settings(max_examples=25)
        @given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
        def holds(case: schemathesis.Case) -> None:
            asked.add(case.operation.label)
            case.call_and_validate(headers=headers, timeout=20, excluded_checks=NOT_ASKED)

        holds()
    assert asked == {operation.label for operation in operations}
