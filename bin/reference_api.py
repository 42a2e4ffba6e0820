"""docs/reference/http-api.md: the OpenAPI document as tables, and what machines ask beside the API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flask_openapi3 import OpenAPI

_FOR_MACHINES = ("/healthz", "/readyz", "/metrics")


def api_page(app: OpenAPI) -> str:
    """The page without its head."""
    document: Mapping[str, Any] = app.api_doc
    calls = [
        (method, path, call) for path, calls in document["paths"].items() for method, call in calls.items()
    ]
    lines = [
        "# HTTP API",
        "",
        document["info"]["description"],
        "",
        "A running `stocksync web` serves the same as an OpenAPI document at `/api/v1/openapi.json`, and at `/docs` a page to try it with.",
        "`stocksync users key NAME` makes a key. Without users and keys, only callers on the same machine are answered.",
        "",
        "| call | what it does |",
        "|---|---|",
        *(
            f"| [`{method.upper()} {path}`](#{_anchor(method, path)}) | {call['summary']} |"
            for method, path, call in calls
        ),
    ]
    for method, path, call in calls:
        lines += ["", *_call(method, path, call)]
    lines += ["", "## For machines", "", "| path | what it says |", "|---|---|"]
    for rule in app.url_map.iter_rules():
        if rule.rule in _FOR_MACHINES:
            lines.append(
                f"| `GET {rule.rule}` | {' '.join((app.view_functions[rule.endpoint].__doc__ or '').split())} |"
            )
    lines += ["", "## Schemas"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += ["", *_schema(name, schema)]
    return "\n".join(lines) + "\n"


def _anchor(method: str, path: str) -> str:
    return f"{method}-{path}".lower().translate(str.maketrans("", "", "/{}"))


def _call(method: str, path: str, call: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"## `{method.upper()} {path}`", "", call["summary"])
    if parameters := call.get("parameters"):
        yield from ("", "| parameter | in | type | default | meaning |", "|---|---|---|---|---|")
        for one in parameters:
            default = "required" if one["required"] else _default(one["schema"])
            yield (
                f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {default} | {one.get('description', '')} |"
            )
    for content in call.get("requestBody", {}).get("content", {}).values():
        yield from ("", f"Body: {_type(content['schema'])}")
    answers: dict[str, list[str]] = {}
    for status, answer in sorted(call["responses"].items()):
        contents = [_type(one["schema"]) for one in answer.get("content", {}).values()]
        answers.setdefault(" or ".join(dict.fromkeys(contents)), []).append(status)
    said = [f"{', '.join(statuses)}: {content}" for content, statuses in answers.items()]
    yield from ("", f"Answers: {'; '.join(said)}.")


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {name}", "")
    if said := schema.get("description"):
        yield from (" ".join(said.split()), "")
    required = schema.get("required", ())
    if not (properties := schema.get("properties")):
        yield _type(schema)
        return
    yield from ("| field | type | default | meaning |", "|---|---|---|---|")
    for field, one in properties.items():
        must = "always" if field in required else _default(one)
        yield f"| `{field}` | {_type(one)} | {must} | {' '.join(one.get('description', '').split())} |"


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words; one that has a name is a link."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[several]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object, each value {_type(schema['additionalProperties'])}"
    words = {"array": "list", "null": "null"}.get(kind, kind)
    return " ".join([words, *([f"({schema['format']})"] if "format" in schema else []), *_limits(schema)])


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    for least, most, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters")):
        low, high = schema.get(least), schema.get(most)
        if low is not None and high is not None:
            yield f"{low:g} to {high:.10g}{unit}"
        elif high is not None:
            yield f"up to {high:.10g}{unit}"
        elif low is not None:
            yield f"at least {low:g}{unit}"
