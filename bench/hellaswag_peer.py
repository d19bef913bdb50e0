"""The harness's side of bench/hellaswag.mjs: python hellaswag_peer.py MODEL.gguf DATA DOCUMENTS THREADS

Made for lm_eval 0.4.12, transformers 5.23 and torch 2.13. DATA has hellaswag.jsonl with `query`, `choices` and `gold`, cleaned as the
harness cleans them; batch size 1, its default, maximal length 2048. Prints seconds (tokenizing and scoring, not loading) and scores.
"""

import json
import os
import sys
import time

import torch
import transformers
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

os.environ["HF_HUB_OFFLINE"] = "1"
source, data, documents, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
folder, name = os.path.split(os.path.abspath(source))
tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=2048)
task = ConfigurableTask(
    config={
        "task": "hellaswag_file",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": os.path.join(data, "hellaswag.jsonl")}},
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "doc_to_text": "{{query}}",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
)
start = time.time()
results = evaluate(lm, {"hellaswag_file": task}, limit=documents, bootstrap_iters=0)["results"]["hellaswag_file"]
print(json.dumps({"seconds": time.time() - start, "acc": results["acc,none"], "acc_norm": results["acc_norm,none"]}))
