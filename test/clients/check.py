"""Unchanged Python clients against a running edged. run starts it; every check is one thing that a user of a client does."""

import asyncio
import json
import os
import sys
import time
import traceback

import langchain_openai
import litellm
import ollama
import openai
from langchain_core.messages import HumanMessage, ToolMessage
from pydantic import BaseModel
from wyoming.asr import Transcript
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info

URL = os.environ["EDGED_URL"]  # an open door
LOCKED = os.environ["EDGED_LOCKED_URL"]  # one with a token and room for one request of a client
TOKEN = os.environ["EDGED_TOKEN"]
MODEL = os.environ["EDGED_MODEL"]
ASK = [{"role": "user", "content": "Turn on the light in the hall."}]
LIGHT = {
    "type": "function",
    "function": {
        "name": "light",
        "description": "Switch a light.",
        "parameters": {
            "type": "object",
            "properties": {"room": {"enum": ["hall", "shed"]}, "on": {"type": "boolean"}},
            "required": ["room", "on"],
        },
    },
}
FORCED = {"type": "function", "function": {"name": "light"}}
SCHEMA = {"type": "object", "properties": {"room": {"enum": ["hall", "shed"]}}, "required": ["room"], "additionalProperties": False}

client = openai.OpenAI(base_url=URL + "/v1", api_key="unused")
locked = openai.OpenAI(base_url=LOCKED + "/v1", api_key=TOKEN)
LONG = {"max_tokens": 450, "extra_body": {"ignore_eos": True}}


def openai_chat():
    r = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=20, temperature=0)
    assert r.choices[0].message.content and r.choices[0].finish_reason in ("stop", "length"), r
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens > 0, r
    two = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=8, n=2, seed=4, temperature=1.2)
    assert [c.index for c in two.choices] == [0, 1], two


def openai_stream():
    whole = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=20, temperature=0).choices[0].message.content
    text, usage = "", None
    for chunk in client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=20, temperature=0, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    assert text == whole and usage.completion_tokens > 0, (text, whole, usage)
    with client.chat.completions.stream(model=MODEL, messages=ASK, temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content, "the helper has no text"


def openai_logprobs():
    r = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=8, logprobs=True, top_logprobs=2, temperature=0)
    steps = r.choices[0].logprobs.content
    assert "".join(s.token for s in steps).startswith(r.choices[0].message.content) and len(steps[0].top_logprobs) == 2, r


def openai_tools():
    r = client.chat.completions.create(model=MODEL, messages=ASK, tools=[LIGHT], tool_choice="required", max_tokens=120)
    message = r.choices[0].message
    call = message.tool_calls[0]
    assert r.choices[0].finish_reason == "tool_calls" and json.loads(call.function.arguments)["room"] in ("hall", "shed"), r
    r = client.chat.completions.create(
        model=MODEL, max_tokens=20, tools=[LIGHT], messages=ASK + [message, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
    )
    assert r.choices[0].message is not None, r
    with client.chat.completions.stream(model=MODEL, messages=ASK, tools=[LIGHT], tool_choice=FORCED, max_tokens=120) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls" and final.message.tool_calls[0].function.name == "light", final
    json.loads(final.message.tool_calls[0].function.arguments)


def openai_schema():
    class Room(BaseModel):
        room: str

    r = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=60, response_format={"type": "json_schema", "json_schema": {"name": "room", "schema": SCHEMA, "strict": True}}
    )
    assert json.loads(r.choices[0].message.content)["room"] in ("hall", "shed"), r
    parsed = client.chat.completions.parse(model=MODEL, messages=ASK, max_tokens=200, response_format=Room, temperature=0)
    assert isinstance(parsed.choices[0].message.parsed, Room), parsed


def openai_completions():
    r = client.completions.create(model=MODEL, prompt="Kitchen:", max_tokens=8)
    assert r.choices[0].text and r.usage.prompt_tokens > 0, r
    assert "".join(c.choices[0].text for c in client.completions.create(model=MODEL, prompt="Kitchen:", max_tokens=8, stream=True) if c.choices), "no text"


def openai_embeddings():
    packed = client.embeddings.create(model=MODEL, input=["light", "lamp"])
    plain = client.embeddings.create(model=MODEL, input=["light", "lamp"], encoding_format="float")
    assert len(packed.data) == 2 and [d.index for d in packed.data] == [0, 1], packed
    assert max(abs(a - b) for a, b in zip(packed.data[1].embedding, plain.data[1].embedding)) < 1e-6


def openai_responses():
    r = client.responses.create(model=MODEL, input="Hello", max_output_tokens=60, temperature=0)
    assert r.output_text and r.status in ("completed", "incomplete"), r
    text, kinds = "", []
    for event in client.responses.create(model=MODEL, input="Hello", temperature=0, stream=True):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed" and text, (kinds, text)
    tool = {"type": "function", **LIGHT["function"], "strict": False}
    r = client.responses.create(model=MODEL, input=ASK, tools=[tool], tool_choice="required", max_output_tokens=120)
    call = next(o for o in r.output if o.type == "function_call")
    json.loads(call.arguments)
    r = client.responses.create(
        model=MODEL, input=ASK + [o.model_dump() for o in r.output] + [{"type": "function_call_output", "call_id": call.call_id, "output": "done"}],
        tools=[tool], tool_choice="none", max_output_tokens=20,
    )
    assert r.output[0].type == "message", r
    with client.responses.stream(model=MODEL, input="Hello", max_output_tokens=200, temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text, "the helper has no text"


def openai_models():
    names = [m.id for m in client.models.list()]
    assert names[0] == MODEL and "pirate" in names, names
    assert client.models.retrieve("pirate").id == "pirate"
    r = client.chat.completions.create(model="pirate", messages=[{"role": "user", "content": "Turn on the hallway light."}], max_tokens=30, temperature=0)
    assert "arr" in r.choices[0].message.content.lower(), r


def openai_errors():
    for kind, body in (
        (openai.NotFoundError, {"model": "gpt-4o", "messages": ASK}),
        (openai.BadRequestError, {"model": MODEL, "messages": ASK, "temperature": 1000}),
        (openai.BadRequestError, {"model": MODEL, "messages": [{"role": "user", "content": "x " * 5000}]}),
        (openai.BadRequestError, {"model": MODEL, "messages": ASK, "extra_body": {"nonsense": 1}}),
    ):
        for stream in (False, True):
            try:
                client.with_options(max_retries=0).chat.completions.create(**body, stream=stream)
            except kind as e:
                assert e.message and e.code, e
            else:
                raise AssertionError(f"{body}: no {kind.__name__}")
    try:
        openai.OpenAI(base_url=LOCKED + "/v1", api_key="wrong").models.list()
    except openai.AuthenticationError:
        pass
    else:
        raise AssertionError("a wrong key is taken")


def openai_disconnect():
    """The locked door has room for one request of a client: who left holds none, or the next one fails."""
    for _ in range(5):
        stream = locked.chat.completions.create(model=MODEL, messages=ASK, stream=True, **LONG)
        next(iter(stream))
        stream.close()
        time.sleep(0.2)
        locked.with_options(max_retries=0).chat.completions.create(model=MODEL, messages=ASK, max_tokens=2)


def openai_retries():
    """While the one place is taken there is 429 with Retry-After, which the client obeys."""
    stream = locked.chat.completions.create(model=MODEL, messages=ASK, stream=True, **LONG)
    first = iter(stream)
    next(first)
    try:
        locked.with_options(max_retries=0).chat.completions.create(model=MODEL, messages=ASK, max_tokens=2)
    except openai.RateLimitError as e:
        assert 1 <= int(e.response.headers["retry-after"]) <= 60, e.response.headers
    else:
        return "the long answer was over before the next request"
    stream.close()
    locked.chat.completions.create(model=MODEL, messages=ASK, max_tokens=2)


def ollama_all():
    c = ollama.Client(host=URL)
    assert c.list().models[0].model == MODEL + ":latest"
    assert c.show(MODEL).capabilities
    r = c.chat(MODEL, ASK, options={"num_predict": 20, "temperature": 0, "num_ctx": 8192}, keep_alive=-1, think=False)
    assert r.message.content and r.done, r
    assert "".join(p.message.content for p in c.chat(MODEL, ASK, stream=True, options={"num_predict": 20, "temperature": 0})) == r.message.content
    assert c.generate(MODEL, "Hello", options={"num_predict": 9}).response
    assert len(c.embed(MODEL, ["a", "b"]).embeddings) == 2
    assert json.loads(c.chat(MODEL, ASK, format=SCHEMA, options={"num_predict": 60}).message.content)["room"] in ("hall", "shed")
    for part in c.chat(MODEL, ASK, tools=[LIGHT], stream=True, options={"num_predict": 60}):
        last = part
    assert last.done, last
    assert c.ps().models[0].model == MODEL + ":latest"
    try:
        c.chat("llama3", ASK)
    except ollama.ResponseError as e:
        assert e.status_code == 404 and "is not served" in e.error, e
    else:
        raise AssertionError("a model that is not there answers")


def langchain_all():
    llm = langchain_openai.ChatOpenAI(model=MODEL, base_url=URL + "/v1", api_key="unused", temperature=0, max_tokens=120)
    assert llm.invoke("Hello").content
    assert "".join(c.content for c in llm.stream("Hello"))
    bound = llm.bind_tools([LIGHT], tool_choice="light")
    answer = bound.invoke([HumanMessage(ASK[0]["content"])])
    assert answer.tool_calls[0]["name"] == "light", answer
    back = llm.bind_tools([LIGHT]).invoke([HumanMessage(ASK[0]["content"]), answer, ToolMessage("done", tool_call_id=answer.tool_calls[0]["id"])])
    assert back.response_metadata["finish_reason"], back
    merged = None
    for chunk in bound.stream([HumanMessage(ASK[0]["content"])]):
        merged = chunk if merged is None else merged + chunk
    assert merged.tool_calls[0]["args"]["room"] in ("hall", "shed"), merged
    shaped = llm.with_structured_output({"title": "room", **SCHEMA}, method="json_schema").invoke("Which room?")
    assert shaped["room"] in ("hall", "shed"), shaped
    vectors = langchain_openai.OpenAIEmbeddings(model=MODEL, base_url=URL + "/v1", api_key="unused", check_embedding_ctx_length=False)
    assert len(vectors.embed_documents(["a", "b"])) == 2


def litellm_all():
    litellm.suppress_debug_info = True
    common = {"api_key": "unused", "max_tokens": 60, "temperature": 0}
    r = litellm.completion(model="openai/" + MODEL, api_base=URL + "/v1", messages=ASK, **common)
    assert r.choices[0].message.content, r
    assert "".join(c.choices[0].delta.content or "" for c in litellm.completion(model="openai/" + MODEL, api_base=URL + "/v1", messages=ASK, stream=True, **common))
    r = litellm.completion(model="openai/" + MODEL, api_base=URL + "/v1", messages=ASK, tools=[LIGHT], tool_choice="required", **{**common, "max_tokens": 120})
    assert r.choices[0].message.tool_calls[0].function.name == "light", r
    r = litellm.completion(model="ollama_chat/" + MODEL, api_base=URL, messages=ASK, max_tokens=20)
    assert r.choices[0].message.content, r
    assert len(litellm.embedding(model="openai/" + MODEL, api_base=URL + "/v1", api_key="unused", input=["a", "b"]).data) == 2
    try:
        litellm.completion(model="openai/gpt-4o", api_base=URL + "/v1", messages=ASK, **common)
    except litellm.NotFoundError:
        pass
    else:
        raise AssertionError("a model that is not there answers")


def wyoming_all():
    async def talk():
        async with AsyncTcpClient("127.0.0.1", int(os.environ["EDGED_WYOMING"])) as c:
            await c.write_event(Describe().event())
            program = Info.from_event(await c.read_event()).handle[0]
            assert program.installed and program.supports_handled_streaming and program.models[0].languages == ["en"], program
        async with AsyncTcpClient("127.0.0.1", int(os.environ["EDGED_WYOMING"])) as c:
            await c.write_event(Transcript(text="Turn on the hallway light.", language="en").event())
            kinds, chunks, whole = [], "", None
            while not kinds or kinds[-1] != "handled-stop":
                event = await c.read_event()
                kinds.append(event.type)
                chunks += event.data["text"] if event.type == "handled-chunk" else ""
                whole = event.data["text"] if event.type == "handled" else whole
            assert kinds[0] == "handled-start" and kinds[-2] == "handled" and whole and chunks == whole, (kinds, chunks, whole)

    asyncio.run(talk())


def main():
    checks = [v for k, v in globals().items() if callable(v) and k.startswith(("openai_", "ollama_", "langchain_", "litellm_", "wyoming_"))]
    failed = 0
    for check in checks:
        try:
            note = check()
            print("ok  ", check.__name__, note or "")
        except Exception:
            failed += 1
            print("FAIL", check.__name__)
            traceback.print_exc(limit=4)
    print(f"python: {len(checks) - failed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
