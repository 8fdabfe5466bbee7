#!/bin/sh
# xgrammar 0.2.9: a grammar from a JSON schema. A string without bounds may hold every character. With minLength of 1 or more,
# or with any maxLength, it may hold none that JSON writes with a backslash: no quote, no newline, no tab, no backslash, so
# that code, a Windows path or a text of two lines cannot be answered, although the value is valid and short enough. A
# bound that excludes nothing (maxLength 100 of a text of three characters) has the same effect; minLength 0 has not.
#
# Seen:  {"type": "string"}                    accepts  "abc" "a\nb" "a\"b" "a\\b"
#        {"type": "string", "minLength": 0}    accepts  "abc" "a\nb" "a\"b" "a\\b"
#        {"type": "string", "minLength": 1}    accepts  "abc"
#        {"type": "string", "maxLength": 100}  accepts  "abc"
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/v"
"$dir/v/bin/pip" -q install xgrammar==0.2.9 jsonschema==4.26.0
"$dir/v/bin/python" - <<'PY'
import json

import jsonschema
import xgrammar

# A token for each byte, and one that ends the text.
tokens = xgrammar.TokenizerInfo([bytes([b]) for b in range(256)] + [b"</s>"], stop_token_ids=[256])
compiler = xgrammar.GrammarCompiler(tokens)


def accepts(schema, text):
    matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(json.dumps(schema)))
    return matcher.accept_string(text) and matcher.accept_token(256)


values = ["abc", "a\nb", 'a"b', "a\\b"]
for bound, seen in [({}, values), ({"minLength": 0}, values), ({"minLength": 1}, ["abc"]), ({"maxLength": 100}, ["abc"])]:
    schema = {"type": "string", **bound}
    for value in values:
        jsonschema.validate(value, schema)
    got = [value for value in values if accepts(schema, json.dumps(value))]
    print(json.dumps(schema), "accepts", *map(json.dumps, got))
    assert got == seen, (schema, got)
PY
