#!/usr/bin/env bash
# transformers 5.24.0: an M2M-100 tokenizer that was made of its two files, or saved and loaded again, does not know its own
# language tokens as special ones: decode(…, skip_special_tokens=True) leaves "__de__" before each translation. The condition
# that should add them, `lang_code not in str(token) not in self.added_tokens_encoder`, is a chained comparison that cannot be
# true, since a token's text holds its language's code. Naming them oneself as additional_special_tokens does not help.
# Seen: "made: '__en__ the cat', saved and loaded: '__en__ the cat', named: '__en__the cat'".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip -q install transformers==5.24.0 sentencepiece==0.2.3 protobuf
cat >ask.py <<'P'
import json
import sentencepiece
from transformers import M2M100Tokenizer

words = "the cat sat on a mat and the dog saw it there".split()
with open("text", "w") as f:
    for i in range(400):
        print(*(words[(i * 7 + k * 3) % len(words)] for k in range(9)), file=f)
sentencepiece.SentencePieceTrainer.train(input="text", model_prefix="sp", vocab_size=28, minloglevel=2)
pieces = sentencepiece.SentencePieceProcessor(model_file="sp.model")
names = ["<s>", "<pad>", "</s>", "<unk>"]
names += [p for p in map(pieces.id_to_piece, range(pieces.get_piece_size())) if p not in names]
with open("vocab.json", "w") as f:
    json.dump({p: i for i, p in enumerate(names)}, f)

def text(t):
    return t.decode(t("the cat").input_ids, skip_special_tokens=True)

made = M2M100Tokenizer("vocab.json", "sp.model", src_lang="en", tgt_lang="de")
made.save_pretrained("saved")
saved = M2M100Tokenizer.from_pretrained("saved")
listed = M2M100Tokenizer("vocab.json", "sp.model", src_lang="en", additional_special_tokens=["__en__", "__de__"])
print(f"made: {text(made)!r}, saved and loaded: {text(saved)!r}, named: {text(listed)!r}")
P
found=$(v/bin/python ask.py 2>/dev/null)
echo "$found"
[ "$found" = "made: '__en__ the cat', saved and loaded: '__en__ the cat', named: '__en__the cat'" ] ||
  { echo "the behaviour has changed"; exit 1; }
