#!/usr/bin/env bash
# llama.cpp's convert_hf_to_gguf.py (of llama-cpp-python 0.3.36) with two BERT folders, as sentence-transformers 6.2.0 and
# transformers 5.24.0 save them.
# An embedder whose modules.json names a Dense module behind the pooling (as LaBSE's does) is converted without that module:
# its vectors have another length and another direction. A reranker (BertForSequenceClassification, as the ms-marco cross
# encoders are) keeps its classifier and loses the pooler in front of it, tanh(W·cls + b): its scores, and their order, are
# others. Both end with exit code 0 and not a word of it.
# Seen: "embedder: 24 numbers by sentence-transformers, 32 in the file, tensors of the Dense module: none",
# "reranker: cls.output.bias cls.output.weight", "order by the model 2 0 1, without its pooler 0 2 1".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip -q install torch==2.15.0 transformers==5.24.0 sentence-transformers==6.2.0 safetensors==0.8.0 gguf==0.19.0 numpy==2.4.6 sentencepiece protobuf
v/bin/pip -q download --no-deps --no-binary :all: llama-cpp-python==0.3.36
tar xf llama_cpp_python-0.3.36.tar.gz
source=llama_cpp_python-0.3.36/vendor/llama.cpp
cat >save.py <<'P'
import torch, transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
torch.manual_seed(3)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "lamp", "is", "on", "the", "door", "shut", "rain", "today"]
with open("vocab.txt", "w") as file:
    file.write("\n".join(words))
tokenizer = transformers.BertTokenizer("vocab.txt")
size = {"vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "initializer_range": 0.5}
transformers.BertModel(transformers.BertConfig(**size)).save_pretrained("plain")
tokenizer.save_pretrained("plain")
whole = SentenceTransformer(modules=[Transformer("plain"), Pooling(32, pooling_mode="cls"), Dense(32, 24)], device="cpu")
whole.save("embedder")
print(len(whole.encode("the lamp is on")))
reranker = transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=1, **size)).eval()
reranker.save_pretrained("reranker")
tokenizer.save_pretrained("reranker")
documents = ["the lamp is on", "the door is shut", "rain today"]
pairs = tokenizer(["is the door shut"] * 3, documents, return_tensors="pt", padding=True)
with torch.no_grad():
    score = reranker(**pairs).logits[:, 0]
    bare = reranker.classifier(reranker.bert(**pairs).last_hidden_state[:, 0])[:, 0]
print(*score.argsort(descending=True).tolist())
print(*bare.argsort(descending=True).tolist())
P
v/bin/python save.py >said 2>/dev/null
# The table of pre-tokenizers knows no vocabulary that was made a moment ago: answer "default" for it, and change nothing else.
cat >convert.py <<'P'
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/gguf-py"]
import conversion.base as base, convert_hf_to_gguf
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "default"
sys.argv = ["convert", sys.argv[2], "--outfile", sys.argv[2] + ".gguf", "--outtype", "f32"]
convert_hf_to_gguf.main()
P
for model in embedder reranker; do
  v/bin/python convert.py "$source" "$model" >"$model.log" 2>&1
done
grep -hiE "dense|pooler|module" ./*.log >mentions || true
cat mentions
cat >show.py <<'P'
from gguf import GGUFReader
numbers, order, bare = open("said").read().splitlines()
file = GGUFReader("embedder.gguf")
dense = [t.name for t in file.tensors if t.name.startswith("dense")]
print(f"embedder: {numbers} numbers by sentence-transformers, {file.fields['bert.embedding_length'].contents()} in the file,",
      "tensors of the Dense module:", *dense or ["none"])
print("reranker:", *sorted(t.name for t in GGUFReader("reranker.gguf").tensors if "cls" in t.name or "pool" in t.name))
print(f"order by the model {order}, without its pooler {bare}")
P
v/bin/python show.py | tee found
cat >wanted <<'W'
embedder: 24 numbers by sentence-transformers, 32 in the file, tensors of the Dense module: none
reranker: cls.output.bias cls.output.weight
order by the model 2 0 1, without its pooler 0 2 1
W
cmp -s found wanted && [ ! -s mentions ] || { echo "the behaviour has changed"; exit 1; }
