#!/usr/bin/env python3
"""Makes up small templates and writes what jinja2 makes of them, one JSON object a line.

    python3 -m venv v && v/bin/pip install jinja2==3.1.6 transformers==5.24.0
    v/bin/python tools/jinjafuzz/generate.py 20000 1 > cases.jsonl     # how many, seed
    go run ./tools/jinjafuzz cases.jsonl                               # what differs
    v/bin/python tools/jinjafuzz/generate.py tools/jinjafuzz/found.txt > core/chat/jinja/testdata/jinja2.jsonl   # the tests' cases

The environment is the one that transformers compiles chat templates in. Python's addresses and sets are left out, and so is
what takes it longer than a second.
"""
import json
import random
import re
import signal
import sys
import warnings

import jinja2
from transformers.utils.chat_template_utils import _compile_jinja_template

warnings.filterwarnings("ignore")
assert jinja2.__version__ == "3.1.6"

CONTEXT = {
    "s": "Hello World", "e": "", "ml": "one\ntwo\r\n\nthree\n", "u": "ÉÀ ßtraße ǆ ﬁ İI ς", "q": "it's \"so\" \\ \t", "html": "<b>x & 'y'</b>",
    "n": 3, "z": 0, "neg": -7, "big": 12345678901234567890123, "f": 2.5, "g": 1e16, "h": -0.0, "t": True, "no": None, "fa": False,
    "l": [3, 1, 2], "l2": ["b", "A", "c", "a"], "mix": [1, "1", 1.0, True, None, [1], {"a": 1}], "nest": [[1, 2], [3, [4, 5]]], "empty": [],
    "d": {"b": 2, "a": 1, "items": [1], "keys": "k", "get": None, "C": {"x": 1.5}}, "ed": {},
    "people": [{"n": "Bo", "a": 3, "r": {"k": 1}}, {"n": "al", "a": 3, "r": {"k": 2}}, {"n": "Cy", "a": 1}],
    "messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": " Hi <x> "}, {"role": "assistant", "content": "é\n\nOn."}],
}
NAMES = list(CONTEXT) + ["nope", "x", "y", "loop"]
STRS = ["''", "'a'", "'b'", "\"it's\"", "'a,b,,c'", "' x '", "'%s'", "'%5.1f|'", "'{} {}'", "'{0!r:>6}'", "'é'", "'\\n'", "'<&>'", "'12'", "'-3.7'", "'0x1f'", "'abcabc'", "'Hello World'", "'role'", "'a'"]
NUMS = ["0", "1", "2", "3", "-1", "-2", "5", "10", "1.0", "0.5", "2.5", "-0.1", "1e3", "1e-7", "1e22", "1_000", "0x10", "9007199254740993", "99999999999999999999", "3.14159"]
ATTRS = ["a", "b", "n", "r", "k", "C", "x", "items", "keys", "values", "get", "role", "content", "upper", "append", "__class__", "_p", "count", "index", "real", "0"]
METHODS = {
    "upper": 0, "lower": 0, "title": 0, "capitalize": 0, "swapcase": 0, "casefold": 0, "strip": (0, 1), "lstrip": (0, 1), "rstrip": (0, 1), "split": (0, 2), "rsplit": (0, 2),
    "splitlines": (0, 1), "replace": (2, 3), "startswith": (1, 3), "endswith": (1, 3), "find": (1, 3), "rfind": (1, 3), "index": (1, 3), "count": (1, 3), "join": 1,
    "zfill": 1, "center": (1, 2), "ljust": (1, 2), "rjust": (1, 2), "partition": 1, "rpartition": 1, "removeprefix": 1, "removesuffix": 1, "isalpha": 0, "isdigit": 0,
    "isalnum": 0, "isspace": 0, "islower": 0, "isupper": 0, "istitle": 0, "isnumeric": 0, "isdecimal": 0, "isidentifier": 0, "isprintable": 0, "isascii": 0, "expandtabs": (0, 1), "format": (0, 3),
    "items": 0, "keys": 0, "values": 0, "get": (1, 2), "copy": 0, "bit_length": 0, "is_integer": 0, "conjugate": 0,
}
FILTERS = {
    "abs": 0, "attr": 1, "batch": (1, 2), "capitalize": 0, "center": (0, 1), "count": 0, "default": (0, 2), "d": (1, 2), "dictsort": (0, 3), "e": 0, "escape": 0, "filesizeformat": (0, 1), "first": 0,
    "float": (0, 1), "forceescape": 0, "format": (0, 2), "indent": (0, 3), "int": (0, 2), "items": 0, "join": (0, 2), "last": 0, "length": 0, "list": 0, "lower": 0,
    "max": (0, 1), "min": (0, 1), "replace": (2, 3), "reverse": 0, "round": (0, 2), "safe": 0, "slice": (1, 2), "sort": (0, 2), "string": 0,
    "striptags": 0, "sum": (0, 2), "title": 0, "tojson": (0, 2), "trim": (0, 1), "truncate": (0, 4), "unique": (0, 1), "upper": 0, "urlencode": 0, "wordcount": 0, "xmlattr": (0, 1),
    "wordwrap": (0, 3), "pprint": 0, "urlize": (0, 1), "groupby": (1, 2),
}
TESTS = {
    "odd": 0, "even": 0, "divisibleby": 1, "defined": 0, "undefined": 0, "filter": 0, "test": 0, "none": 0, "boolean": 0, "false": 0, "true": 0, "integer": 0, "float": 0, "lower": 0, "upper": 0,
    "string": 0, "mapping": 0, "number": 0, "sequence": 0, "iterable": 0, "callable": 0, "sameas": 1, "escaped": 0, "in": 1, "eq": 1, "ne": 1, "gt": 1, "ge": 1, "lt": 1, "le": 1, "equalto": 1,
    "lessthan": 1, "greaterthan": 1,
}


class Maker:
    def __init__(self, rng):
        self.r = rng

    def pick(self, xs):
        return self.r.choice(list(xs))

    def count(self, n):
        return n if isinstance(n, int) else self.r.randint(*n)

    def args(self, n, depth):
        return ", ".join(self.expr(depth - 1) for _ in range(self.count(n)))

    def atom(self):
        k = self.r.random()
        if k < 0.4:
            return self.pick(NAMES)
        if k < 0.65:
            return self.pick(STRS)
        if k < 0.9:
            return self.pick(NUMS)
        return self.pick(["true", "false", "none", "True", "None", "[]", "{}", "()", "(1,)", "range(3)", "range(5, 0, -2)", "namespace(a=1)", "dict(a=1)", "'<i>'|safe"])

    def expr(self, depth):
        if depth <= 0:
            return self.atom()
        r, d = self.r, depth
        k = r.randint(0, 20)
        e = lambda: self.expr(d - 1 if r.random() < 0.8 else 0)
        if k == 0:
            return f"({e()} {self.pick(['+', '-', '*', '/', '//', '%', '~', '~', '+'])} {e()})"
        if k == 1:
            return f"{e()} {self.pick(['+', '-', '*', '/', '//', '%', '~'])} {e()}"
        if k == 2:
            return f"({e()} {self.pick(['==', '!=', '<', '<=', '>', '>=', 'in', 'not in'])} {e()})"
        if k == 3:
            return f"({e()} {self.pick(['and', 'or'])} {e()})"
        if k == 4:
            return self.pick([f"not {e()}", f"-{e()}", f"+{e()}", f"({self.atom()}) ** {self.pick(['2', '3', '0', '-1', '0.5'])}"])
        if k == 5:
            return f"[{', '.join(e() for _ in range(r.randint(0, 3)))}]"
        if k == 6:
            return "{" + ", ".join(f"{self.pick(STRS + NUMS + ['none', 'true', '(1, 2)'])}: {e()}" for _ in range(r.randint(0, 3))) + "}"
        if k == 7:
            return f"({', '.join(e() for _ in range(r.randint(2, 3)))})"
        if k == 8:
            return f"({e()}).{self.pick(ATTRS)}"
        if k == 9:
            return f"{self.pick(NAMES)}[{e()}]"
        if k == 10:
            p = lambda: self.pick(["", "", "1", "-1", "2", "-3", "n", "10", "none"])
            return f"({e()})[{p()}:{p()}{self.pick(['', '', ':' + p(), ':2', ':-1'])}]"
        if k in (11, 12):
            m = self.pick(METHODS)
            return f"({e()}).{m}({self.args(METHODS[m], d)})"
        if k == 13:
            return f"({e()} if {e()}{self.pick(['', f' else {e()}', f' else {e()}'])})"
        if k == 14:
            t = self.pick(TESTS)
            return f"({e()} is {self.pick(['', 'not '])}{t}{'(' + self.args(TESTS[t], d) + ')' if TESTS[t] else ''})"
        if k == 15:
            kind = r.randint(0, 6)
            seq = self.pick(["l", "l2", "people", "messages", "mix", "nest", "d", "s", e()])
            if kind == 0:
                f = self.pick(FILTERS)
                return f"({seq}|map('{f}'{''.join(', ' + self.expr(0) for _ in range(self.count(FILTERS[f])))})|list)"
            if kind == 1:
                return f"({seq}|map(attribute='{self.pick(['a', 'n', 'r.k', '0', 'role', 'items'])}'{self.pick(['', ', default=0'])})|list)"
            if kind == 2:
                t = self.pick(TESTS)
                return f"({seq}|{self.pick(['select', 'reject'])}('{t}'{', ' + self.expr(0) if TESTS[t] else ''})|list)"
            if kind == 3:
                t = self.pick(TESTS)
                return f"({seq}|{self.pick(['selectattr', 'rejectattr'])}('{self.pick(['a', 'n', 'r', 'role'])}'{self.pick(['', f', {chr(39)}{t}{chr(39)}' + (', ' + self.expr(0) if TESTS[t] else '')])})|list)"
            if kind == 4:
                return f"({seq}|groupby('{self.pick(['a', 'n', 'role'])}'{self.pick(['', ', default=1'])}))"
            if kind == 5:
                return f"({seq}|{self.pick(['sort', 'sort', 'unique', 'min', 'max', 'sum'])}(attribute='{self.pick(['a', 'n', 'r.k', '0', 'a,n'])}')|{self.pick(['list', 'string', 'first'])})"
            return f"({seq}|join({self.pick(STRS)}))"
        if k == 16:
            return f"({self.pick(STRS)} % {self.pick([e(), '(' + e() + ',)', '(' + e() + ', ' + e() + ')'])})"
        if k == 17:
            flags = self.pick(["", "-", "+", "0", " ", "#", "05", "-8", "+07"])
            conv = self.pick("diouxXeEfFgGcrsa%")
            prec = self.pick(["", "", ".0", ".2", ".5"])
            return f"('%{flags}{prec}{conv}' % {self.pick([e(), self.pick(NUMS)])})"
        if k == 18:
            spec = self.pick(["", ":>8", ":<5", ":^9", ":08.3f", ":,", ":x", ":#o", ":+d", ":.2f", ":e", ":%", ":_", ":*^10", "!r", "!s:5", ":.3", ":g", ":010,", ":c"])
            return f"'{{{self.pick(['', '0', 'k', '0.a', '0[0]', '0[a]'])}{spec}}}'.format({e()}, k={e()})"
        f = self.pick(FILTERS)
        n = self.count(FILTERS[f])
        return f"({e()}|{f}{'(' + ', '.join(self.expr(d - 2) for _ in range(n)) + ')' if n else ''})"

    def ws(self):
        return self.pick(["", "", "", "-", "+"])

    def text(self):
        return self.pick(["", " ", "\n", "\n\n", "  \n  ", "a", " b ", "\n c\n", "\t", "{ x }", "#", "\r\n", "é"])

    def out(self, depth=2):
        return "{{" + self.pick(["", "-", "+"]) + " " + self.expr(depth) + " " + self.pick(["", "-"]) + "}}"

    def tag(self, body):
        return "{%" + self.ws() + self.pick(["", " ", "  "]) + body + self.pick(["", " "]) + self.ws() + "%}"

    def var(self):
        return self.pick(["x", "y", "v", "n", "s", "l"])

    def block(self, depth, inloop=False):
        if depth <= 0:
            return self.text() + self.out(1) + self.text()
        r = self.r
        b = lambda loop=inloop: self.block(depth - 1 if r.random() < 0.7 else 0, loop)
        k = r.randint(0, 17)
        T = self.tag
        if k <= 1:
            return b() + b()
        if k == 2:
            return T(f"if {self.expr(1)}") + b() + self.pick(["", T(f"elif {self.expr(1)}") + b(), T("else") + b()]) + T("endif")
        if k in (3, 4):
            extra = self.pick(["", "", f" if {self.expr(1)}", " recursive" if r.random() < 0.3 else ""])
            it = self.pick(["l", "l2", "people", "d", "d.items()", "nest", "range(3)", "nope", "empty", "messages", "'abc'", self.expr(1)])
            v = self.pick([self.var(), self.var(), "k, v"])
            body = self.pick(["{{ " + self.var() + " }}", "{{ loop." + self.pick(["index", "index0", "first", "last", "length", "revindex", "revindex0", "previtem", "nextitem", "depth"]) + " }}", "{{ loop.cycle('a', 'b') }}", "{{ loop.changed(x) }}", b(True)])
            return T(f"for {v} in {it}{extra}") + self.text() + body + b(True) + self.pick(["", T("else") + b()]) + T("endfor")
        if k in (5, 6):
            return T(f"set {self.var()} = {self.expr(2)}") + self.out(1) + b()
        if k == 7:
            return T(f"set {self.var()}{self.pick(['', ' | upper', ' | trim'])}") + b() + T("endset") + self.out(0)
        if k == 8:
            return T(f"set ns = namespace(a={self.expr(1)}, b=1)") + T("for i in l") + T(f"set ns.{self.pick(['a', 'b', 'c'])} = {self.pick(['ns.a', 'ns.b', 'i', self.expr(1)])}") + b(True) + T("endfor") + "{{ ns.a }}{{ ns.b }}{{ ns }}"
        if k == 9:
            p = self.pick(["", "a", "a, b=2", "x=n", "caller=none"])
            call = self.pick(["f()", "f(1)", "f(1, 2)", "f(b=3)", "f(1, 2, 3)", "f(x=s)", "f(1, z=2)"])
            body = self.pick(["{{ a }}{{ b }}", "{{ x }}{{ varargs }}{{ kwargs }}", "{{ caller() if caller else 0 }}", b(False)])
            return T(f"macro f({p})") + self.text() + body + T("endmacro") + self.pick(["{{ " + call + " }}", T(f"call {call}") + b(False) + T("endcall"), T(f"call(q) {call}") + "{{ q }}" + T("endcall")])
        if k == 10:
            return T(f"filter {self.pick(['upper', 'trim', 'replace(%s, %s)' % (self.pick(STRS), self.pick(STRS)), 'indent', 'title', 'escape', 'length'])}") + b(inloop) + T("endfilter")
        if k == 11:
            return T(f"with {self.var()} = {self.expr(1)}, {self.pick(['w', 'v'])} = {self.expr(1)}") + b() + "{{ w }}" + T("endwith")
        if k == 12:
            return "{#" + self.ws() + self.text() + "c" + self.ws() + "#}" + b()
        if k == 13:
            return T("raw") + self.pick(["{{ x }}", "{% if %}", "a\n", " {# #} "]) + T("endraw") + b()
        if k == 14 and inloop:
            return T(self.pick(["break", "continue"])) if r.random() < 0.5 else T(f"if {self.expr(1)}") + T(self.pick(["break", "continue"])) + T("endif") + b()
        if k == 15:
            return T("generation") + b(False) + T("endgeneration")
        if k == 16:
            return T(f"autoescape {self.pick(['true', 'true', 'false', 'n'])}") + b() + self.out(2) + T("endautoescape")
        if k == 17:
            return T(f"set x, {self.pick(['y', 'v'])} = {self.pick(['[1, 2]', '(s, n)', 'l', self.expr(1)])}") + "{{ x }}" + b()
        return b()


def run(template):
    def late(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        return {"text": _compile_jinja_template.__wrapped__(template).render(**json.loads(json.dumps(CONTEXT)))}
    except (TimeoutError, MemoryError):
        return None
    except RecursionError:
        return None
    except BaseException as e:  # whatever Python raises is a refusal
        return {"error": f"{type(e).__name__}: {e}"[:300]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def kept(path):
    """The templates of a file, one JSON text a line, and a thousand short ones that are made up."""
    sources = [json.loads(line) for line in open(path, encoding="utf-8")]
    m = Maker(random.Random(0))
    while len(sources) < 1000:
        source = "{{ " + m.expr(2) + " }}" if m.r.random() < 0.6 else m.block(2)
        if len(source) < 160 and "autoescape n" not in source:  # which constants are escaped there depends on what is folded
            sources.append(source)
    for source in sources:
        got = run(source)
        if got is not None and not unstable(got):
            print(json.dumps({"template": source, **got}, ensure_ascii=True))


def unstable(got):
    return re.search(r"0x[0-9a-f]{6}|<built-in|<function|<bound|<generator|<class|dict_keyiterator|[^a-z]set\(", got.get("text", ""), re.I) or re.search(r"\d[+-][\d.e-]+j\)", got.get("text", ""))


def main():
    print(json.dumps({"made_by": "tools/jinjafuzz/generate.py, jinja2 3.1.6, transformers 5.24.0", "context": CONTEXT}))
    if len(sys.argv) == 2:
        return kept(sys.argv[1])
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    made = 0
    while made < count:
        m = Maker(rng)
        source = "{{ " + m.expr(rng.randint(1, 3)) + " }}" if rng.random() < 0.6 else m.block(rng.randint(1, 3))
        got = run(source)
        if got is None or unstable(got):
            continue
        made += 1
        print(json.dumps({"template": source, **got}, ensure_ascii=True))


main()
