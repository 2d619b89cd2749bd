#!/usr/bin/env python3
"""Compares kvstow's logits on a GPU with those of Hugging Face transformers in float32.

    tests/cuda/hf/compare_logits.py KVSTOW qwen3-0.6b/bf16 opt-1.3b/f16 --rows results/h200/logits.csv

Needs torch, transformers and a GPU with room for a model in float32 and in its dtype. For each case,
SHAPE/DTYPE, it makes a random checkpoint (numbers of the size that kvstow's random_weights have), and
computes the logits of 2,000 positions three times on the same weights:

    reference   transformers in float32, eager attention, no TF32
    theirs      transformers in the dtype, as it comes (sdpa)
    ours        `kvstow logits`: the first 200 tokens of every sequence as one prompt, the others
                decoded one by one through block tables

Errors are relative L2 over all positions. A position counts where the reference's two best logits
differ by more than 4 times our root mean square error; there the best one has to be the same. Largest gaps at
which another token is best stand beside it, in the root mean square errors of each: the difference of two logits is
off by sqrt(2) of them in the mean. So does the largest error of one position: a wrong row among right ones.
Exit code 1 where our error exceeds 1.1 times theirs (float32: 1e-5), or a best token differs.
"""
import argparse
import csv
import datetime
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

SHAPES = {
    "qwen3-0.6b": lambda: transformers.Qwen3Config(
        hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128, intermediate_size=3072, vocab_size=151936, max_position_embeddings=40960,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, rms_norm_eps=1e-6, tie_word_embeddings=True),
    "llama-3-8b": lambda: transformers.LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        intermediate_size=14336, vocab_size=128256, max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5}, rms_norm_eps=1e-5, tie_word_embeddings=False),
    "opt-1.3b": lambda: transformers.OPTConfig(
        hidden_size=2048, num_hidden_layers=24, num_attention_heads=32, ffn_dim=8192,
        vocab_size=50272, max_position_embeddings=2048, word_embed_proj_dim=2048),
    "tiny-qwen3": lambda: transformers.Qwen3Config(
        hidden_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64, intermediate_size=512, vocab_size=1000, max_position_embeddings=1024,
        tie_word_embeddings=True),
}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LENGTHS = (65, 100, 129, 160, 220, 300, 400, 626)
PROMPT = 200
SEED = 1
MOST_OVER_THEIRS = 1.1
MOST_IN_F32 = 1e-5
GAP_IN_RMS_ERRORS = 4


def random_model(shape, dtype):
    torch.manual_seed(SEED)
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(
            SHAPES[shape](), dtype=dtype, attn_implementation="sdpa").eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.normal_(0, parameter.shape[1] ** -0.5)
        else:
            middle = 0 if name.endswith("bias") else 1
            parameter.uniform_(middle - 0.2, middle + 0.2)
    for name, buffer in model.named_buffers():
        if "inv_freq" in name and buffer.dtype != torch.float32:
            sys.exit(f"{name} is {buffer.dtype}: the reference would have rounded angles")
    return model


def logits_of(model, sequences):
    return torch.cat([model(s[None], use_cache=False).logits[0].float() for s in sequences])


def kvstow_logits(kvstow, folder, dtype, sequences, vocab):
    tokens, out = folder / "tokens.txt", folder / "logits.f32"
    tokens.write_text("".join(" ".join(map(str, s.tolist())) + "\n" for s in sequences))
    subprocess.run([kvstow, "logits", folder, "--tokens", tokens, "--out", out, "--executor", "cuda",
                    "--dtype", dtype, "--prompt", str(PROMPT)], check=True)
    return torch.from_numpy(np.fromfile(out, np.float32).reshape(-1, vocab)).cuda()


def relative_l2(x, reference):
    """In pieces: the differences of 2,000 x 150,000 logits need not exist in float64 at once."""
    error = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(x.split(100), reference.split(100)))
    norm = sum(float(b.double().square().sum()) for b in reference.split(100))
    return (error / norm) ** 0.5, (error / reference.numel()) ** 0.5


def largest_position_error(x, reference):
    """Relative L2."""
    return max(float(((a.double() - b.double()).square().sum(1) / b.double().square().sum(1)).max()) ** 0.5
               for a, b in zip(x.split(100), reference.split(100)))


def compare(ours, theirs, reference):
    """The figures of one row."""
    decoded = torch.cat([torch.arange(n) >= PROMPT for n in LENGTHS])
    error, rms = relative_l2(ours, reference)
    own, own_rms = relative_l2(theirs, reference)
    best = reference.topk(2, dim=1)
    gap = best.values[:, 0] - best.values[:, 1]
    over = gap > GAP_IN_RMS_ERRORS * rms
    other = [x.argmax(1) != best.indices[:, 0] for x in (ours, theirs)]
    return {
        "positions": len(reference),
        "decoded": int(decoded.sum()),
        "rel_l2": error,
        "rel_l2_prompts": relative_l2(ours[~decoded], reference[~decoded])[0],
        "rel_l2_decodes": relative_l2(ours[decoded], reference[decoded])[0],
        "transformers_rel_l2": own,
        "ratio": error / own if own > 0 else "",
        "rms_logit": float(reference.double().square().mean() ** 0.5),
        "rms_error": rms,
        "share_over_gap": float(over.float().mean()),
        "other_best_token": int((over & other[0]).sum()),
        "transformers_other_best_token": int((over & other[1]).sum()),
        "largest_gap_other": float((gap * other[0]).max()) / rms,
        "transformers_largest_gap_other": float((gap * other[1]).max()) / own_rms,
        "largest_position_rel_l2": largest_position_error(ours, reference),
        "transformers_largest_position_rel_l2": largest_position_error(theirs, reference),
    }


def append(path, row):
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    key = ("shape", "dtype")
    rows = [r for r in rows if any(r[k] != row[k] for k in key)] + [row]
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, row.keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def three_logits(kvstow, shape, dtype):
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        model = random_model(shape, DTYPES[dtype])
        model.save_pretrained(folder, max_shard_size="2GB")
        vocab = model.config.vocab_size
        generator = torch.Generator().manual_seed(SEED)
        sequences = [torch.randint(vocab, (n,), generator=generator).cuda() for n in LENGTHS]
        theirs = logits_of(model, sequences)
        model.float().set_attn_implementation("eager")
        reference = logits_of(model, sequences)
        del model
        torch.cuda.empty_cache()
        return kvstow_logits(kvstow, folder, dtype, sequences, vocab), theirs, reference
    finally:
        shutil.rmtree(folder)


def manifest(kvstow):
    version = subprocess.run([kvstow, "--version"], check=True, capture_output=True, text=True)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": version.stdout.split("(")[1].split(",")[0],
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kvstow")
    parser.add_argument("cases", nargs="+", choices=[f"{s}/{d}" for s in SHAPES for d in DTYPES], metavar="SHAPE/DTYPE")
    parser.add_argument("--rows", type=pathlib.Path, help="CSV file that gets a row for each case")
    arguments = parser.parse_args()
    torch.set_float32_matmul_precision("highest")

    good = True
    for case in arguments.cases:
        shape, dtype = case.split("/")
        figures = compare(*three_logits(arguments.kvstow, shape, dtype))
        row = manifest(arguments.kvstow) | {"shape": shape, "dtype": dtype}
        row |= {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in figures.items()}
        print("\n".join(f"{key:<30} {value}" for key, value in row.items()), flush=True)
        if arguments.rows:
            append(arguments.rows, row)
        within = figures["rel_l2"] < MOST_IN_F32 if dtype == "f32" else figures["ratio"] <= MOST_OVER_THEIRS
        good &= within and figures["other_best_token"] == 0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
