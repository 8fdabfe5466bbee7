#!/usr/bin/env python3
"""Renders 40 conversations by every template of some folders with transformers, one JSON object a line.

    v/bin/python tools/jinjafuzz/templates.py FOLDER... > cases.jsonl      # *.jinja, *.jinja2; the environment of generate.py
    go run ./tools/jinjafuzz cases.jsonl                                   # what differs

Templates are other people's text and are not kept here; compare-public, beside this, fetches public ones and does all of it. The clock stands still. "refused" says that the template itself did.
"""
import copy
import datetime
import json
import pathlib
import sys

import jinja2
from transformers.utils import chat_template_utils as u

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


u.datetime = Clock

TOOLS = [
    {"type": "function", "function": {"name": "lamp", "description": "Switches a lamp <on> & \"off\".", "parameters": {"type": "object", "properties": {
        "room": {"type": "string", "enum": ["hall", "attic"]}, "on": {"type": "boolean"}, "level": {"type": "number", "minimum": 0.0}}, "required": ["room"]}}},
    {"type": "function", "function": {"name": "now", "description": "Tells the time.", "parameters": {"type": "object", "properties": {}}}},
    {"type": "function", "function": {"name": "items", "description": "", "parameters": {"type": "object", "properties": {
        "items": {"type": "array", "items": {"type": ["integer", "null"]}}, "keys": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}}}, "return": {"type": "string"}}},
]


def user(text="Is the lamp on?"):
    return {"role": "user", "content": text}


def assistant(text="Yes.", **more):
    return {"role": "assistant", "content": text, **more}


def call(name="lamp", arguments=None, i=0):
    return {"id": f"call{i:05d}", "type": "function", "function": {"name": name, "arguments": {"room": "hall", "on": True} if arguments is None else arguments}}


def tool(text="done", i=0, **more):
    return {"role": "tool", "tool_call_id": f"call{i:05d}", "content": text, **more}


def conversations():
    system = {"role": "system", "content": "You are a house.\n"}
    calls = lambda *c, text="", **more: {"role": "assistant", "content": text, "tool_calls": list(c), **more}
    talk = [user(), assistant(), user("And  now? \n")]
    yield "user", [user()], {}
    yield "system", [system, user()], {}
    yield "turns", [system, *talk], {}
    yield "closed", [system, user(), assistant("No.")], {"add_generation_prompt": False}
    yield "unicode", [user("Küche 🏠 \u2028 ‮ e\u0301 \x07")], {}
    yield "quotes", [user("it's \"so\" \\n <b>&amp;</b> {{ x }} {% y %}"), assistant("`'\"`"), user("?")], {}
    yield "empty", [user("")], {}
    yield "blank", [{"role": "system", "content": "  \n"}, user(" \t\n x \n\n")], {}
    yield "two users", [user("a"), user("b")], {}
    yield "system later", [user(), system, user("b")], {}
    yield "two systems", [system, system, user()], {}
    yield "assistant first", [assistant("Hello!"), user()], {}
    yield "only system", [system], {}
    yield "tools", [user()], {"tools": TOOLS}
    yield "tools and system", [system, user()], {"tools": TOOLS}
    yield "one tool", [user()], {"tools": TOOLS[1:2]}
    yield "no tools", [user()], {"tools": []}
    yield "call", [user(), calls(call()), tool()], {"tools": TOOLS}
    yield "call and answer", [user(), calls(call()), tool(name="lamp"), assistant("It is on."), user("Thanks")], {"tools": TOOLS}
    yield "two calls", [user(), calls(call(), call("now", {}, 1)), tool(), tool("12:00", 1)], {"tools": TOOLS}
    yield "calls in turn", [user(), calls(call()), tool(), calls(call("now", {}, 1)), tool("12:00", 1), assistant("Noon.")], {"tools": TOOLS, "add_generation_prompt": False}
    yield "nested arguments", [user(), calls(call("items", {"items": [1, [], {}, None, True, "q'r"], "keys": {"values": 1.0, "get": None}})), tool("[]")], {"tools": TOOLS}
    yield "numbers", [user(), calls(call("lamp", {"room": "x", "level": 1.0, "a": 1e16, "b": -0.0, "c": 12345678901234567890, "d": 1e-7})), tool('{"a": 1.0}')], {"tools": TOOLS}
    yield "no arguments", [user(), calls(call("now", {})), tool("12:00")], {"tools": TOOLS}
    yield "arguments as text", [user(), calls(call("lamp", '{"room": "hall"}')), tool()], {"tools": TOOLS}
    yield "quotes in arguments", [user(), calls(call("lamp", {"room": "it's \"Küche\" <x> & \\ \n\t🏠"})), tool("'")], {"tools": TOOLS}
    yield "text and call", [user(), calls(call(), text="Let me see. "), tool()], {"tools": TOOLS}
    yield "null content", [user(), {**calls(call()), "content": None}, tool()], {"tools": TOOLS}
    yield "nulls", [user(), assistant("No.", tool_calls=None, name=None, reasoning_content=None), user()], {}
    yield "thought", [user(), assistant("Yes.", reasoning_content="hm\nhm"), user("?")], {}
    yield "thought in the text", [user(), assistant("<think>\nhm\n</think>\n\nYes."), user("?")], {}
    yield "thought and call", [user(), calls(call(), reasoning_content="I look."), tool()], {"tools": TOOLS}
    yield "thinking", [user(), assistant("Yes.", thinking="hm"), user("?")], {}
    yield "no thinking", [user()], {"enable_thinking": False}
    yield "do think", [system, user()], {"enable_thinking": True, "thinking": True, "reasoning_effort": "low"}
    yield "parts", [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], {}
    yield "picture", [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}], {}
    yield "developer", [{"role": "developer", "content": "Be brief."}, user()], {"tools": TOOLS}
    yield "documents", [user()], {"documents": [{"title": "T", "text": "Tea is hot."}, {"title": "U", "text": ""}]}
    yield "unknown role", [{"role": "observer", "content": "x"}, user()], {}


def main():
    seen = set()
    for folder in sys.argv[1:]:
        for path in sorted(pathlib.Path(folder).rglob("*.jinja*")):
            source = path.read_text(encoding="utf-8", errors="replace")
            if source in seen:
                continue
            seen.add(source)
            for name, messages, more in conversations():
                variables = {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", **more, "messages": messages}
                line = {"file": str(path.resolve()), "case": name, "variables": copy.deepcopy(variables), "now": NOW.isoformat()}
                kwargs = copy.deepcopy(variables)
                chat = u._normalize_chat_messages(kwargs.pop("messages"))
                try:
                    line["text"] = u.render_jinja_template([chat], chat_template=source, **kwargs)[0][0]
                except jinja2.exceptions.TemplateSyntaxError as e:
                    line["error"] = f"{type(e).__name__}: {e}"[:300]
                except jinja2.exceptions.TemplateError as e:
                    line["refused"] = type(e) is jinja2.exceptions.TemplateError
                    line["error"] = f"{type(e).__name__}: {e}"[:300]
                except Exception as e:
                    line["error"] = f"{type(e).__name__}: {e}"[:300]
                print(json.dumps(line, ensure_ascii=True))


main()
