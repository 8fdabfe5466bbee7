#!/bin/sh
# tokenizers 0.23.3 and sentencepiece 0.2.3 with one character map (nmt_nfkc, which XLM-R, T5 and their kin carry). The
# normalizer Precompiled looks a short cluster of characters up as a whole, takes the first entry that is a prefix of it and
# forgets the rest; of a longer cluster it looks each character up alone. SentencePiece takes the longest entry each time
# and goes on behind it. So a letter with two marks in Unicode's decomposed form comes out with one of them, another letter of
# Vietnamese, and decomposed Hangul stays decomposed, which a vocabulary of composed text does not have.
#
# Seen (sentencepiece, tokenizers):  e + U+0323 + U+0302 (the NFD of U+1EC7)          U+1EC7          U+1EB9
#                                    U+1112 U+1161 U+11AB (the NFD of U+D55C)         U+D55C          U+1112 U+1161 U+11AB
#                                    U+338F + U+0301 (kg with an accent)              k g U+0301      k g
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip -q install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
v/bin/python - <<'PY'
import io
import unicodedata

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import normalizers

written = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a b c d"] * 9), model_writer=written, vocab_size=9, hard_vocab_limit=False, minloglevel=2,
    normalization_rule_name="nmt_nfkc", add_dummy_prefix=False)
model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
precompiled = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
codes = lambda s: " ".join(f"{ord(c):04X}" for c in s)
for text, theirs, ours in [
    (unicodedata.normalize("NFD", "\u1ec7"), "\u1ec7", "\u1eb9"),
    (unicodedata.normalize("NFD", "\ud55c"), "\ud55c", "\u1112\u1161\u11ab"),
    ("\u338f\u0301", "kg\u0301", "kg"),
    ("\u1ec7", "\u1ec7", "\u1ec7"),  # composed, both agree
]:
    got = processor.normalize(text), precompiled.normalize_str(text)
    print(f"{codes(text)}: sentencepiece {codes(got[0])}, tokenizers {codes(got[1])}")
    assert got == (theirs, ours), (text, got)
PY
