#!/bin/sh
# jinja2 3.1.6 (Python 3.9 to 3.13, the extension loopcontrols): the else of a for runs although there were turns, where
# each of them ended with break or continue. The manual says that else is for a loop that had no turn; Python's own
# for-else does not run it after a break either.
#
# Seen:  {% for x in [1, 2] %}{{ x }}{% break %}{% else %} none{% endfor %}                    ->  "1 none"
#        {% for x in [1, 2] %}{{ x }}{% continue %}{% else %} none{% endfor %}                 ->  "12 none"
#        {% for x in [1, 2] %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% else %} none{% endfor %}  ->  "12"
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/v"
"$dir/v/bin/pip" -q install jinja2==3.1.6
"$dir/v/bin/python" - <<'PY'
import jinja2

env = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
for source, seen in [
    ("{% for x in [1, 2] %}{{ x }}{% break %}{% else %} none{% endfor %}", "1 none"),
    ("{% for x in [1, 2] %}{{ x }}{% continue %}{% else %} none{% endfor %}", "12 none"),
    ("{% for x in [1, 2] %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% else %} none{% endfor %}", "12"),
    ("{% for x in [1, 2] %}{{ x }}{% else %} none{% endfor %}", "12"),
]:
    got = env.from_string(source).render()
    assert got == seen, (source, got)
print("as described")
PY
