"""What every part of a recipe is made of: frozen models with all keys known, and the schemas of short forms."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)


class Spec(BaseModel):
    """One part of a recipe: frozen, with every key known.

    A recipe that does not say its `newer` keys has the hash that it had before there were any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    newer: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_newer_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        values: dict[str, Any] = handler(self)
        # What was given, not what is written of it: JSON has lists, and a default may be a tuple.
        return {k: v for k, v in values.items() if k not in self.newer or getattr(self, k) != fields[k].default}


def named(parameters: dict[str, dict[str, Any]], *others: dict[str, Any]) -> WithJsonSchema:
    """The schema of what a recipe may write: a bare name, or a name with its parameters (a schema each); or
    one of `others`.
    """
    with_parameters = {
        "type": "object",
        "properties": {
            name: {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
            for name, properties in parameters.items()
        },
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    return WithJsonSchema({"anyOf": [{"enum": list(parameters)}, with_parameters, *others]})


def limit(parse: Any, example: str) -> Any:
    """How a limit is read, by `parse`, and its schema: a number with its unit, such as `example`."""
    return (
        BeforeValidator(parse),
        WithJsonSchema({"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*\S+\s*$", "examples": [example]}),
    )
