#!/usr/bin/env bash
# llama.cpp's convert_hf_to_gguf.py (of llama-cpp-python 0.3.36) with a folder that transformers 5.24.0 saved.
# BLOOM has no limit of positions of its own (ALiBi), and transformers saves none. The converter looks for seq_length and
# falls back to the width of the model: the file says that its context is as long as a row is wide, and a server that
# believes the file refuses longer prompts. GPT-NeoX ends with KeyError 'rotary_pct', since transformers 5 writes that
# setting as rope_parameters.partial_rotary_factor.
# Seen: "bloom: width 48, bloom.context_length 48" and "gpt_neox: KeyError: 'rotary_pct'".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip -q install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 gguf==0.19.0 numpy==2.4.6 sentencepiece protobuf
v/bin/pip -q download --no-deps --no-binary :all: llama-cpp-python==0.3.36
tar xf llama_cpp_python-0.3.36.tar.gz
source=llama_cpp_python-0.3.36/vendor/llama.cpp
cat >save.py <<'P'
import torch, transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
bpe = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
bpe.add_special_tokens(["<|endoftext|>"])
size = {"vocab_size": 257, "hidden_size": 48, "bos_token_id": 256, "eos_token_id": 256}
for name, config in {
    "bloom": transformers.BloomConfig(n_layer=1, n_head=4, **size),
    "gpt_neox": transformers.GPTNeoXConfig(num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, **size),
}.items():
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(name)
    transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>").save_pretrained(name)
P
v/bin/python save.py 2>/dev/null
# The table of pre-tokenizers knows no tokenizer that was made a moment ago: answer "gpt-2" for it, and change nothing else.
cat >convert.py <<'P'
import importlib, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/gguf-py"]
import conversion.base as base, convert_hf_to_gguf
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
sys.argv = ["convert", sys.argv[2], "--outfile", sys.argv[2] + ".gguf", "--outtype", "f32"]
convert_hf_to_gguf.main()
P
v/bin/python convert.py "$source" bloom >bloom.log 2>&1
found=$(v/bin/python - <<'P'
from gguf import GGUFReader
fields = GGUFReader("bloom.gguf").fields
print("bloom: width", fields["bloom.embedding_length"].contents(), "bloom.context_length", fields["bloom.context_length"].contents(), sep=" ", end="")
P
)
found=${found/ bloom./, bloom.}
echo "$found"
error=$(v/bin/python convert.py "$source" gpt_neox 2>&1 | tail -1 || true)
echo "gpt_neox: $error"
[ "$found" = "bloom: width 48, bloom.context_length 48" ] && [ "$error" = "KeyError: 'rotary_pct'" ] || { echo "the behaviour has changed"; exit 1; }
