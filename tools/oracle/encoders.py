"""Writes the tiny encoders and encoder-decoders by which a clone proves them without any other data, plain and packed.

    as families.py says, and: v/bin/pip install bitsandbytes
    LLAMA_CPP=llama_cpp_python-0.3.36/vendor/llama.cpp v/bin/python tools/oracle/encoders.py core/infer/transformer/testdata/encoders [NAME ...]

By hand only; the output is committed. Each NAME becomes a folder with what transformers saves, and golden.json: versions and
command, then what transformers computes in float32 with eager attention: of an encoder the states of a list of random ids and what
its head makes of them, of an encoder-decoder the logits behind a few tokens. A NAME that is packed holds besides nf4/ and int8/,
folders as bitsandbytes packs them, and Q8_0 and Q4_0 files where llama.cpp's converter knows the family, each with what the same model
computes from the weights that the file holds.
"""
import json
import os
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import families
from families import VOCAB, WIDTH, fill

ENC = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64}
DISTIL = {"vocab_size": VOCAB, "dim": WIDTH, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64}
T5 = {"vocab_size": VOCAB, "d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
BART = {"vocab_size": VOCAB, "d_model": WIDTH, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}

# name: (model_type, settings, head, packed)
MODELS = {
    "bert": ("bert", ENC, "", True),
    "camembert": ("camembert", {**ENC, "pad_token_id": 1}, "", False),
    "distilbert": ("distilbert", DISTIL, "", False),
    "distilbert-rank": ("distilbert", DISTIL, "rank", False),
    "distilbert-mask": ("distilbert", DISTIL, "mask", False),
    "mpnet": ("mpnet", {**ENC, "pad_token_id": 0}, "", False),
    "electra": ("electra", {**ENC, "embedding_size": 16}, "", False),
    "electra-rank": ("electra", {**ENC, "embedding_size": 16}, "rank", False),
    "electra-mask": ("electra", {**ENC, "embedding_size": 16}, "mask", False),
    "albert": ("albert", {**ENC, "num_hidden_layers": 5, "num_hidden_groups": 2, "embedding_size": 16}, "", False),
    "albert-rank": ("albert", {**ENC, "embedding_size": 16}, "rank", False),
    "albert-mask": ("albert", {**ENC, "embedding_size": 16}, "mask", False),
    "gte": ("gte", ENC, "", False),
    "gte-rank": ("gte", ENC, "rank", False),
    "gte-mask": ("gte", {**ENC, "type_vocab_size": 0}, "mask", False),
    "jina_embeddings_v3": ("jina_embeddings_v3", ENC, "", False),
    "jina_embeddings_v3-mask": ("jina_embeddings_v3", ENC, "mask", False),
    "t5": ("t5", {**T5, "feed_forward_proj": "relu"}, "s2s", True),
    "umt5": ("umt5", T5, "s2s", False),
    "bart": ("bart", BART, "s2s", True),
    "marian": ("marian", {**BART, "pad_token_id": VOCAB - 1, "decoder_start_token_id": VOCAB - 1}, "s2s", False),
    "mbart": ("mbart", {**BART, "decoder_start_token_id": 2}, "s2s", False),
    "m2m_100": ("m2m_100", {**BART, "decoder_start_token_id": 2}, "s2s", False),
}
CLASSES = {"": "AutoModel", "rank": "AutoModelForSequenceClassification", "mask": "AutoModelForMaskedLM", "s2s": "AutoModelForSeq2SeqLM"}
# Files in which llama.cpp computes what the folder means.
FILES = {"bert", "t5"}


def numbers(x):
    return [round(float(v), 5) for v in np.asarray(x).reshape(-1)]


def computed(model, head, ids, types):
    """What the model makes of one list."""
    with torch.no_grad():
        if head == "s2s":
            start = model.config.decoder_start_token_id
            out = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[start, *ids[:4]]]), use_cache=False)
            return {"decoder": [start, *ids[:4]], "logits": numbers(out.logits[0, -1])}
        kinds = {} if types is None else {"token_type_ids": torch.tensor([types])}
        out = model(input_ids=torch.tensor([ids]), **kinds)
        if head == "rank":
            return {"score": numbers(out.logits[0])[0]}
        if head == "mask":
            return {"place": 3, "logits": numbers(out.logits[0, 3])}
        return {"states": numbers(out.last_hidden_state[0])}


def golden(model, head, seed):
    rng = np.random.default_rng(seed)
    out = []
    for n in (13, 37):
        ids = [int(i) for i in rng.integers(5, VOCAB - 8, n)]
        config = model.config
        types = [0] * 5 + [1] * (n - 5) if getattr(config, "type_vocab_size", 0) == 2 and head != "s2s" else None
        out.append({"ids": ids, "types": types, **computed(model, head, ids, types)})
    return out


def load(folder, head):
    return getattr(transformers, CLASSES[head]).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def unpack4(tensors, name, shape):
    """A matrix in NF4 by the definition of its parts: bitsandbytes' own kernel for CPUs takes the first block's scale for all where rows
    are shorter than a block."""
    part = {key[len(name):]: value for key, value in tensors.items() if key.startswith(name)}
    state = json.loads(bytes(next(v for k, v in part.items() if "quant_state" in k).tolist()))
    nested = part[".nested_absmax"].repeat_interleave(state["nested_blocksize"])
    scale = part[".nested_quant_map"][part[".absmax"].long()] * nested[:len(part[".absmax"])] + state["nested_offset"]
    codes = part[""].reshape(-1)
    values = part[".quant_map"][torch.stack([codes >> 4, codes & 15], 1).reshape(-1).long()]
    return (values * scale.repeat_interleave(state["blocksize"])[:len(values)]).reshape(shape)


def bnb_model(folder, head, home, how):
    """A folder as bitsandbytes packs it, and the model with what is packed, unpacked by bitsandbytes."""
    import bitsandbytes as bnb
    config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32) \
        if how == "nf4" else transformers.BitsAndBytesConfig(load_in_8bit=True)
    packed = getattr(transformers, CLASSES[head]).from_pretrained(folder, quantization_config=config, dtype=torch.float32, device_map="cpu").eval()
    packed.save_pretrained(home / how)
    plain = load(folder, head)
    modules = dict(plain.named_modules())
    count, tensors = 0, load_file(home / how / "model.safetensors")
    for name, module in packed.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            weight = unpack4(tensors, name + ".weight", modules[name].weight.shape)
        elif isinstance(module, bnb.nn.Linear8bitLt):
            state = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
            weight = module.weight.data.float() * state.float()[:, None] / 127
        else:
            continue
        modules[name].weight.data = weight.float().reshape(modules[name].weight.shape)
        count += 1
    assert count, "nothing was packed"
    (home / how / "generation_config.json").unlink(missing_ok=True)
    return plain


def gguf_model(folder, head, home, name, kind):
    """A file of one format of blocks, and the model with what its tensors hold: the folder's through the same rounding."""
    families.convert(folder, home / f"{name}.gguf")
    import gguf  # the converter's own, which it has put before others
    file = home / f"{name}-{kind}.gguf"
    source = home / f"{name}.gguf"
    reader = gguf.GGUFReader(source)
    arch = reader.get_field("general.architecture").contents()
    writer = gguf.GGUFWriter(file, arch)
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        value, types = field.contents(), field.types
        writer.add_key_value(field.name, value, types[0], sub_type=types[-1] if types[0] == gguf.GGUFValueType.ARRAY else None)
    to = gguf.GGMLQuantizationType[kind]
    rounded = {}
    for tensor in reader.tensors:
        data = np.array(tensor.data).astype(np.float32)
        if data.ndim == 2 and data.shape[1] % 32 == 0 and "token_types" not in tensor.name and "position" not in tensor.name and "rel_b" not in tensor.name:
            packed = gguf.quants.quantize(data, to)
            writer.add_tensor(tensor.name, packed, raw_dtype=to)
            rounded[data.tobytes()] = gguf.quants.dequantize(packed, to)
        else:
            writer.add_tensor(tensor.name, data, raw_dtype=gguf.GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    source.unlink()
    plain = load(folder, head)
    count = 0
    for _, p in plain.named_parameters():  # by their values, which no two share
        new = rounded.get(p.detach().numpy().astype(np.float32).tobytes())
        if new is not None:
            p.data = torch.from_numpy(new.copy()).reshape(p.shape)
            count += 1
    assert count >= len(rounded), f"{count} of {len(rounded)} tensors were found"
    return plain


def make(name, out, seed):
    kind, settings, head, packed = MODELS[name]
    home = out / name
    shutil.rmtree(home, ignore_errors=True)
    more = {"num_labels": 1} if head == "rank" else {}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **settings, **more)
    model = getattr(transformers, CLASSES[head]).from_config(config, dtype=torch.float32).eval()
    fill(model, seed, 1.0)
    model.to(torch.float16).save_pretrained(home)
    (home / "generation_config.json").unlink(missing_ok=True)
    result = {"head": head, "lists": golden(load(home, head), head, seed)}
    if packed:
        for how in ("nf4", "int8"):
            result[how] = golden(bnb_model(home, head, home, how), head, seed)
        for how in ("Q8_0", "Q4_0") if name in FILES else ():
            result[how] = golden(gguf_model(home, head, home, name, how), head, seed)
    versions = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, float32, eager attention"
    if packed:
        import bitsandbytes
        versions += f", bitsandbytes {bitsandbytes.__version__}, gguf and llama.cpp's converter of llama-cpp-python 0.3.36"
    first = {"made_by": versions, "command": "python tools/oracle/encoders.py core/infer/transformer/testdata/encoders " + name}
    text = json.dumps({**first, **result}, separators=(",", ":"))
    (home / "golden.json").write_text(text.replace(',"command"', ',\n"command"').replace(',"head"', ',\n"head"').replace('{"ids"', '\n{"ids"') + "\n")


def main():
    out = pathlib.Path(sys.argv[1])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(1)
    for name in sys.argv[2:] or MODELS:
        make(name, out, 3000 + list(MODELS).index(name))
        print(name, flush=True)


if __name__ == "__main__":
    main()
