#!/usr/bin/env bash
# transformers 5.24.0, OLMo Hybrid (Gated DeltaNet layers) saved by save_pretrained.
# In memory a layer has one convolution over the channels of queries, keys and values. In the file it has three by their names,
# and these are equal thirds of it, whatever the sizes are: with keys of 24 channels and values of 48, q_conv1d, k_conv1d and
# v_conv1d have 32 each, so q_conv1d ends within the keys. from_pretrained joins them again and is right; who reads the file by
# its names (another program, a converter, an adapter's merge) has to join them first and cut by the configuration's sizes.
# The norm behind attention is called feedforward_layer_norm in the file, and the one before it attention_layer_norm.
# Seen: "in memory: conv1d 96", "in the file: q_conv1d 32, k_conv1d 32, v_conv1d 32, by the sizes 24, 24, 48",
# "attention_layer_norm, feedforward_layer_norm", "read again: equal".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip -q install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
cat >save.py <<'P'
import torch, transformers
from safetensors.torch import load_file
torch.manual_seed(1)
config = transformers.OlmoHybridConfig(
    vocab_size=64, pad_token_id=0, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
    layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=12, linear_value_head_dim=24)
model = transformers.AutoModelForCausalLM.from_config(config).eval()
model.save_pretrained("m")
layer = model.model.layers[0].linear_attn
print("in memory: conv1d", layer.conv1d.weight.shape[0])
saved = load_file("m/model.safetensors")
rows = {n: saved[f"model.layers.0.linear_attn.{n}_conv1d.weight"].shape[0] for n in "qkv"}
print("in the file:", ", ".join(f"{n}_conv1d {r}" for n, r in rows.items()) + ",", "by the sizes 24, 24, 48")
print(", ".join(sorted(n.split(".")[3] for n in saved if n.startswith("model.layers.0.") and "layer" in n.split(".")[3])))
again, ids = transformers.AutoModelForCausalLM.from_pretrained("m").eval(), torch.arange(20)[None]
with torch.no_grad():
    print("read again:", "equal" if torch.equal(model(ids).logits, again(ids).logits) else "different")
P
v/bin/python save.py 2>/dev/null | tee found
cat >wanted <<'W'
in memory: conv1d 96
in the file: q_conv1d 32, k_conv1d 32, v_conv1d 32, by the sizes 24, 24, 48
attention_layer_norm, feedforward_layer_norm
read again: equal
W
cmp -s found wanted || { echo "the behaviour has changed"; exit 1; }
