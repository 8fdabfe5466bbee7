#!/usr/bin/env bash
# llama.cpp's convert_lora_to_gguf.py (of llama-cpp-python 0.3.36) with a LoRA that peft 0.21.2 saved for GPT-2.
# GPT-2 keeps its weights with the input first, and the converter turns them. PEFT's two matrices are not kept so: with
# fan_in_fan_out they have the shapes of any other linear layer. The converter turns them all the same, which
# exchanges A and B: the change of each weight is the transpose of what was trained. A layer that is not square then does
# not fit the base model; the output of the attention is square, so that an adapter of this layer fits and is wrong.
# Seen: "attn.c_proj: transposed, attn_output of a base 8 -> 8: lora_a takes 8, lora_b gives 8" and
# "mlp.c_fc: transposed, ffn_up of a base 8 -> 32: lora_a takes 32, lora_b gives 8".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip -q install --no-compile torch==2.15.0 transformers==5.24.0 peft==0.21.2 safetensors==0.8.0 gguf==0.19.0 numpy==2.4.6 sentencepiece protobuf
v/bin/pip -q download --no-deps --no-binary :all: llama-cpp-python==0.3.36
tar xf llama_cpp_python-0.3.36.tar.gz
source=llama_cpp_python-0.3.36/vendor/llama.cpp
cat >save.py <<'P'
import peft, torch, transformers
torch.manual_seed(0)
config = transformers.GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0)
base = transformers.AutoModelForCausalLM.from_config(config)
base.save_pretrained("base")
lora = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["attn.c_proj", "mlp.c_fc"], fan_in_fan_out=True, init_lora_weights=False)
model = peft.get_peft_model(base, lora)
model.save_pretrained("adapter")
block = model.base_model.model.transformer.h[0]
# What PEFT adds to each weight, which is kept with the input first.
torch.save({"attn.c_proj": block.attn.c_proj.get_delta_weight("default"), "mlp.c_fc": block.mlp.c_fc.get_delta_weight("default")}, "added.pt")
P
v/bin/python save.py 2>/dev/null
PYTHONPATH=$source/gguf-py v/bin/python $source/convert_lora_to_gguf.py --base base --outfile adapter.gguf adapter >log 2>&1 || { cat log; exit 1; }
v/bin/python - <<'P' | tee seen
import torch
from gguf import GGUFReader
tensors = {t.name: torch.tensor(t.data) for t in GGUFReader("adapter.gguf").tensors}
for module, added in torch.load("added.pt").items():
    name = {"attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up"}[module]
    a, b = tensors[f"blk.0.{name}.weight.lora_a"], tensors[f"blk.0.{name}.weight.lora_b"]
    of_file = b @ a  # a GGUF weight has a row for each output
    is_same = of_file.shape == added.T.shape and torch.allclose(of_file, added.T, atol=1e-6)
    is_turned = of_file.shape == added.shape and torch.allclose(of_file, added, atol=1e-6)
    what = {(True, False): "as trained", (False, True): "transposed"}[is_same, is_turned]
    print(f"{module}: {what}, {name} of a base {added.shape[0]} -> {added.shape[1]}: lora_a takes {a.shape[1]}, lora_b gives {b.shape[0]}")
P
cat >want <<'W'
attn.c_proj: transposed, attn_output of a base 8 -> 8: lora_a takes 8, lora_b gives 8
mlp.c_fc: transposed, ffn_up of a base 8 -> 32: lora_a takes 32, lora_b gives 8
W
cmp seen want || { echo "the behaviour has changed"; exit 1; }
