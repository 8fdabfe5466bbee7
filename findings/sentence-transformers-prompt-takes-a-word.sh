#!/usr/bin/env bash
# sentence-transformers 6.2.0 (transformers 5.24.0), a model that leaves its prompt out of the mean (include_prompt=False,
# as INSTRUCTOR does), and a tokenizer that binds a space to the word behind it (SentencePiece's Metaspace).
# How many tokens the prompt has is counted by encoding the prompt alone. Of "query: " the space at the end is a token then,
# but before a text it belongs to the first word: one token too many is left out, so the first word of every text is not in
# the mean. A text of one token has the vector of the closing token. A prompt without the space at its end, to texts that
# begin with one, gives the same tokens, and no word is lost.
# Seen: "alone: ▁query : ▁", "before a text: ▁query : ▁hello ▁world", "mean of: ▁world </s>" for the prompt "query: ",
# "mean of: ▁hello ▁world </s>" for the prompt "query:" and the text " hello world".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip -q install torch==2.15.0 transformers==5.24.0 tokenizers==0.23.3 sentence-transformers==6.2.0
cat >prompt.py <<'P'
import torch, transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors

torch.manual_seed(1)
special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
pieces = [*special.values(), "▁query", ":", "▁", "▁hello", "▁world"]
unigram = Tokenizer(models.Unigram([(p, -float(i)) for i, p in enumerate(pieces)], unk_id=2))
unigram.pre_tokenizer = pre_tokenizers.Metaspace()
unigram.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=unigram, **special)
tokenizer.save_pretrained("m")
size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
model = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(vocab_size=len(pieces), max_position_embeddings=64, pad_token_id=3, **size))
model.save_pretrained("m")
model.eval()
print("alone:", *tokenizer.tokenize("query: "))
print("before a text:", *tokenizer.tokenize("query: hello world"))
both = SentenceTransformer(modules=[Transformer("m"), Pooling(16, "mean", include_prompt=False)], device="cpu")
for prompt, text in [("query: ", "hello world"), ("query:", " hello world"), ("query: ", "hello")]:
    vector = both.encode(text, prompt=prompt, convert_to_tensor=True)
    ids = tokenizer(prompt + text, return_tensors="pt")
    with torch.no_grad():
        states = model(**ids).last_hidden_state[0]
    names = tokenizer.convert_ids_to_tokens(ids.input_ids[0])
    # Which of the means over an end of the tokens is the vector?
    ends = [n for n in range(len(names)) if torch.allclose(states[n:].mean(0), vector, atol=1e-5)]
    assert len(ends) == 1, ends
    print(f"{prompt!r} and {text!r}, mean of:", *names[ends[0]:])
P
v/bin/python prompt.py 2>/dev/null | tee seen
cat >want <<'W'
alone: ▁query : ▁
before a text: ▁query : ▁hello ▁world
'query: ' and 'hello world', mean of: ▁world </s>
'query:' and ' hello world', mean of: ▁hello ▁world </s>
'query: ' and 'hello', mean of: </s>
W
cmp seen want || { echo "the behaviour has changed"; exit 1; }
