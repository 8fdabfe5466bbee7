#!/usr/bin/env bash
# llama.cpp's convert_lora_to_gguf.py (of llama-cpp-python 0.3.36) with adapters that PEFT 0.21.2 saved.
# A GGUF adapter says one number, lora_alpha, and llama.cpp multiplies by alpha / rank, the rank being the tensor's. What PEFT
# scales otherwise is converted without a word: use_rslora (alpha / sqrt(rank)) and alpha_pattern (another alpha for some
# modules) leave no trace in the file. Trained with rank 16 and use_rslora, an adapter acts with a quarter of its strength.
# rank_pattern alone survives, since the rank stands in the shapes.
# Seen: "rslora: PEFT 4.0, GGUF 1.0", "alpha_pattern on v_proj: PEFT 4.0, GGUF 1.0", "rank_pattern on v_proj: PEFT 4.0, GGUF 4.0",
# and no warning.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip -q install torch==2.15.0 transformers==5.24.0 peft==0.21.2 safetensors==0.8.0 gguf==0.19.0 numpy==2.4.6 sentencepiece protobuf
v/bin/pip -q download --no-deps --no-binary :all: llama-cpp-python==0.3.36
tar xf llama_cpp_python-0.3.36.tar.gz
source=llama_cpp_python-0.3.36/vendor/llama.cpp
cat >save.py <<'P'
import torch, transformers
from peft import LoraConfig, get_peft_model
torch.manual_seed(7)
config = transformers.LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
                                  num_key_value_heads=4, max_position_embeddings=128)
for name, more in {"rslora": {"use_rslora": True}, "alpha_pattern": {"alpha_pattern": {"v_proj": 64}}, "rank_pattern": {"rank_pattern": {"v_proj": 4}}}.items():
    base = transformers.AutoModelForCausalLM.from_config(config)
    base.save_pretrained("base")
    model = get_peft_model(base, LoraConfig(r=16, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM", **more))
    model.save_pretrained(name)
    layer = model.base_model.model.model.layers[0].self_attn.v_proj
    print(name, layer.scaling["default"])
P
v/bin/python save.py >peft.txt 2>/dev/null
: >found
while read -r name scaling; do
  PYTHONPATH=$source/gguf-py v/bin/python "$source/convert_lora_to_gguf.py" --base base --outfile "$name.gguf" --outtype f32 "$name" >"$name.log" 2>&1
  # The factors of v_proj say the rank; alpha is the file's.
  v/bin/python - "$name" "$scaling" >>found <<'P'
import sys
from gguf import GGUFReader
name, scaling = sys.argv[1:]
reader = GGUFReader(name + ".gguf")
alpha = reader.fields["adapter.lora.alpha"].contents()
rank = next(min(t.shape) for t in reader.tensors if t.name == "blk.0.attn_v.weight.lora_a")
where = "" if name == "rslora" else " on v_proj"
print(f"{name}{where}: PEFT {scaling}, GGUF {alpha / rank}")
P
done <peft.txt
cat found
grep -hiE "warn|error|scal" ./*.log >warnings || true
cat warnings
cat >wanted <<'W'
rslora: PEFT 4.0, GGUF 1.0
alpha_pattern on v_proj: PEFT 4.0, GGUF 1.0
rank_pattern on v_proj: PEFT 4.0, GGUF 4.0
W
cmp -s found wanted && [ ! -s warnings ] || { echo "the behaviour has changed"; exit 1; }
