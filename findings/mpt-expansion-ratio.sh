#!/usr/bin/env bash
# transformers 5.24.0 and llama.cpp's convert_hf_to_gguf.py (of llama-cpp-python 0.3.36), MPT's setting expansion_ratio.
# MptConfig documents it as the ratio of the up and down projections, MosaicML's own code builds layers by it, and it is saved
# in config.json. transformers builds the MLP four times as wide as the model whatever it says, and so a checkpoint of another
# ratio, which names it rightly, is refused for its shapes. The converter does not know the class by the name that transformers
# saves (MptForCausalLM); under the old name (MPTForCausalLM) it writes four times the width as feed_forward_length too.
# Seen: "expansion_ratio 2: saved as 2, up_proj 128 x 32", and of a checkpoint with 64 rows "RuntimeError: size mismatch",
# "Model MptForCausalLM is not supported", "mpt.feed_forward_length 128".
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
import json, transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
config = transformers.MptConfig(d_model=32, n_heads=2, n_layers=1, vocab_size=257, max_seq_len=64, expansion_ratio=2)
model = transformers.AutoModelForCausalLM.from_config(config)
model.save_pretrained("m")
rows, columns = model.transformer.blocks[0].ffn.up_proj.weight.shape
print(f"expansion_ratio 2: saved as {json.load(open('m/config.json'))['expansion_ratio']}, up_proj {rows} x {columns}")
# The checkpoint that the setting describes: an MLP of 64 rows.
weights = load_file("m/model.safetensors")
weights["transformer.blocks.0.ffn.up_proj.weight"] = weights["transformer.blocks.0.ffn.up_proj.weight"][:64].contiguous()
weights["transformer.blocks.0.ffn.down_proj.weight"] = weights["transformer.blocks.0.ffn.down_proj.weight"][:, :64].contiguous()
save_file(weights, "m/model.safetensors", metadata={"format": "pt"})
try:
    transformers.AutoModelForCausalLM.from_pretrained("m")
    print("it loads")
except Exception as error:
    print(type(error).__name__ + ":", "size mismatch" if "mismatch" in str(error) else str(error).splitlines()[0])
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
bpe = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
bpe.add_special_tokens(["<|endoftext|>"])
transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>").save_pretrained("m")
P
v/bin/python save.py 2>/dev/null >found
# The table of pre-tokenizers knows no tokenizer that was made a moment ago: answer "gpt-2" for it, and change nothing else.
cat >convert.py <<'P'
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/gguf-py"]
import conversion.base as base, convert_hf_to_gguf
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
sys.argv = ["convert", "m", "--outfile", "m.gguf", "--outtype", "f32"]
convert_hf_to_gguf.main()
P
v/bin/python convert.py "$source" >convert.log 2>&1 || grep -o 'Model MptForCausalLM is not supported' convert.log >>found
sed -i 's/MptForCausalLM/MPTForCausalLM/' m/config.json
v/bin/python convert.py "$source" >convert.log 2>&1
v/bin/python - >>found <<'P'
from gguf import GGUFReader
print("mpt.feed_forward_length", GGUFReader("m.gguf").fields["mpt.feed_forward_length"].contents())
P
cat found
cat >wanted <<'W'
expansion_ratio 2: saved as 2, up_proj 128 x 32
RuntimeError: size mismatch
Model MptForCausalLM is not supported
mpt.feed_forward_length 128
W
cmp -s found wanted || { echo "the behaviour has changed"; exit 1; }
