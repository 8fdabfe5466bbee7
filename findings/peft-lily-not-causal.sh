#!/usr/bin/env bash
# PEFT 0.21.2 (transformers 5.24.0), a Lily adapter on a decoder.
# Lily mixes its experts by a router whose weights are averaged over all tokens of a call. So what a token gets depends on the
# tokens behind it, which a causal model must not see, and on the other texts of the batch: the same prompt has other logits
# alone and in company, in one piece and token by token with a cache. An answer cannot be computed again, or cached.
# Seen: "the first three places differ when only later tokens do: yes", "a text differs when another one is in its batch: yes",
# and for a LoRA adapter in its place "no" and "no".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip -q install torch==2.15.0 transformers==5.24.0 peft==0.21.2
cat >lily.py <<'P'
import torch, transformers
from peft import LilyConfig, LoraConfig, get_peft_model
size = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
first, second = torch.tensor([[5, 9, 3, 17, 40, 2]]), torch.tensor([[5, 9, 3, 61, 8, 33]])
for name, config in {
    "Lily": LilyConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    "LoRA": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
}.items():
    torch.manual_seed(1)
    model = get_peft_model(transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**size)), config).eval()
    for label, values in model.named_parameters():
        if "lily" in label or "lora" in label:
            torch.nn.init.normal_(values, std=0.2)  # as if it had been trained
    with torch.no_grad():
        alone, other, together = model(first).logits[0], model(second).logits[0], model(torch.cat([first, second])).logits[0]
    later = (alone[:3] - other[:3]).abs().max() > 1e-3
    company = (alone - together).abs().max() > 1e-3
    print(f"{name}: the first three places differ when only later tokens do: {'yes' if later else 'no'}")
    print(f"{name}: a text differs when another one is in its batch: {'yes' if company else 'no'}")
P
v/bin/python lily.py 2>/dev/null | tee found
cat >wanted <<'W'
Lily: the first three places differ when only later tokens do: yes
Lily: a text differs when another one is in its batch: yes
LoRA: the first three places differ when only later tokens do: no
LoRA: a text differs when another one is in its batch: no
W
cmp -s found wanted || { echo "the behaviour has changed"; exit 1; }
