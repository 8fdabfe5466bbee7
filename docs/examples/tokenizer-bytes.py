#!/usr/bin/python3
"""A tokenizer plugin of edged in Python: every byte is a token, 256 starts a text, 257 ends it.

It shows all that a plugin in another language needs; docs/plugins.md explains each step. Debian has what it imports
(python3-grpcio, python3-grpc-tools). Make the modules from the .proto files first, beside this file:

    python3 -m grpc_tools.protoc -I core/protocol/edgedpb --python_out=DIR --grpc_python_out=DIR edged/v1/tokens.proto edged/v1/tokenizer.proto
"""

import hashlib
import json
import os
import sys
import tempfile
import threading
from concurrent import futures
from datetime import datetime, timezone

import grpc

from edged.v1 import tokenizer_pb2 as pb
from edged.v1 import tokenizer_pb2_grpc, tokens_pb2

VERSION = 1  # of the plugin protocol
PART = 256 << 10  # bytes of a message, roughly
BOS, EOS, TOKENS = 256, 257, 258
PIECES = [bytes([b]) for b in range(256)] + [b"<s>", b"</s>"]
HASH = hashlib.sha256(b"".join(PIECES)).hexdigest()


def log(level, message, **attributes):
    """One line of JSON on standard error is one record in the daemon's log."""
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    print(json.dumps({"@level": level, "@message": message, "@timestamp": stamp, **attributes}), file=sys.stderr, flush=True)


class Tokenizer(tokenizer_pb2_grpc.TokenizerServicer):
    """Methods that are not here answer UNIMPLEMENTED by themselves: Render, EncodeChat, ParseTools."""

    loaded = False

    def need(self, context):
        if not self.loaded:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "tokenizer-bytes: no model loaded")

    def Load(self, request, context):
        if not os.path.exists(request.path):
            context.abort(grpc.StatusCode.DATA_LOSS, f"tokenizer-bytes: {request.path}: no such file")
        self.loaded = True
        log("info", "tokenizer loaded", path=request.path, tokens=TOKENS)
        return pb.TokenizerInfo(
            kind="bpe", tokens=TOKENS, bos_id=BOS, eos_id=EOS, eot_id=-1, unknown_id=-1, pad_id=-1, eog_ids=[EOS], add_bos=True, hash=HASH
        )

    def Encode(self, parts, context):
        # Parts in, joined: a text may be cut anywhere, and ends with the piece that says last.
        texts, text, flags = [], b"", None
        for part in parts:
            flags = flags or part
            for piece in part.texts:
                text += piece.text
                if piece.last:
                    texts.append(text)
                    text = b""
        self.need(context)
        # Parts out, cut.
        for text in texts:
            ids = [BOS] if flags.add_special else []
            if flags.parse_special:
                while text:
                    found = [(text.find(PIECES[i]), i) for i in (BOS, EOS) if PIECES[i] in text]
                    at, control = min(found, default=(len(text), None))
                    ids += text[:at]
                    if control is not None:
                        ids.append(control)
                    text = text[at + len(PIECES[control]) if control is not None else at :]
            else:
                ids += text
            for start in range(0, max(len(ids), 1), PART // 5):
                run = ids[start : start + PART // 5]
                yield pb.IdsPart(lists=[tokens_pb2.IdList(ids=run, last=start + len(run) == len(ids))])

    def Decode(self, parts, context):
        ids, special = [], None
        for part in parts:
            special = part.special if special is None else special
            ids += part.ids
        self.need(context)
        if any(i < 0 or i >= TOKENS for i in ids):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"tokenizer-bytes: an id is outside the {TOKENS} tokens")
        data = b"".join(PIECES[i] for i in ids if special or i < 256)
        for start in range(0, max(len(data), 1), PART):
            yield pb.BytesPart(data=data[start : start + PART])

    def Vocabulary(self, request, context):
        self.need(context)
        yield tokens_pb2.VocabularyPart(
            data=b"".join(PIECES), lengths=[len(p) for p in PIECES], control_ids=[BOS, EOS], last=True, eog_ids=[EOS], bos_id=BOS, hash=HASH
        )


def raw(name, **methods):
    """A service whose messages are made by hand."""
    return grpc.method_handlers_generic_handler(name, {k: grpc.unary_unary_rpc_method_handler(v) for k, v in methods.items()})


def main():
    # 1. The cookie: without it somebody ran this file by hand.
    if os.environ.get("EDGED_PLUGIN") != "edged-plugin-protocol":
        sys.exit("tokenizer-bytes: this is a plugin of edged, which starts it itself: run edged, with this file in its plugins.dir")

    # 2. A server with message limits of its own, and three services: the contract, health, and the request to end.
    limits = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=limits)
    tokenizer_pb2_grpc.add_TokenizerServicer_to_server(Tokenizer(), server)
    done = threading.Event()
    server.add_generic_rpc_handlers((
        raw("grpc.health.v1.Health", Check=lambda request, context: b"\x08\x01"),  # status: SERVING
        raw("plugin.GRPCController", Shutdown=lambda request, context: done.set() or b""),
    ))
    path = tempfile.mktemp(prefix="plugin", dir=os.environ.get("PLUGIN_UNIX_SOCKET_DIR"))
    server.add_insecure_port("unix:" + path)
    server.start()

    # 3. The handshake: one line on standard output.
    print(f"1|{VERSION}|unix|{path}|grpc", flush=True)

    # 4. The lifeline: standard input ends when the daemon does, however it does.
    def follow():
        os.read(0, 1)  # nothing is ever written: it returns at the end
        os._exit(0)

    if os.environ.get("EDGED_PLUGIN_LIFELINE") == "stdin":
        threading.Thread(target=follow, daemon=True).start()
    done.wait()
    server.stop(grace=1).wait()


main()
