#!/bin/sh
# jinja2 3.1.6: a slice of something that has none is an error where it is a variable's, and prints nothing where it is
# written down, because the compiler folds constants by a lookup that swallows the TypeError. So a template can be right
# with a literal and fail with the same value in a variable.
#
# Seen:  {{ 3[1:] }}                      ->  ""
#        {{ {}[1:] }}                     ->  ""
#        {% set n = 3 %}{{ n[1:] }}       ->  TypeError: 'int' object is not subscriptable
#        {% set n = 3 %}{{ n[1] }}        ->  "" (an item that is not there is undefined, in both)
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/v"
"$dir/v/bin/pip" -q install jinja2==3.1.6
"$dir/v/bin/python" -W ignore - <<'PY'
import jinja2

env = jinja2.Environment()
for source in ["{{ (3)[1:] }}", "{{ {}[1:] }}", "{% set n = 3 %}{{ n[1] }}"]:
    assert env.from_string(source).render() == "", source
try:
    env.from_string("{% set n = 3 %}{{ n[1:] }}").render()
except TypeError as e:
    assert "not subscriptable" in str(e), e
else:
    raise SystemExit("no error")
print("as described")
PY
