"""PyTorch's side of bench/train.mjs: whole training steps of the same model, in f32 on the CPU.

Made for torch 2.13:  python bench/train_peer.py '{"vocabSize": 4096, "dim": 192, "layers": 12, "heads": 6, "kvHeads": 2,
"hidden": 512, "rows": 8, "length": 256, "threads": 2}' [--profile]

Says `{"parameters": …}` when ready; then, for each line on standard input (a number of steps), the seconds that they took and
the last loss. A step is forward, backward, clipping and AdamW. Every choice is the fast one that a PyTorch user would make:
scaled_dot_product_attention, one matrix for q, k, v and one for gate and up, cross_entropy on the logits, fused AdamW, gradients set to none.
With --profile it runs a few steps and prints where the time goes.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, dim, heads, kv_heads, hidden):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, dim // heads
        self.attention_norm = nn.RMSNorm(dim, eps=1e-5)
        self.qkv = nn.Linear(dim, (heads + 2 * kv_heads) * self.size, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.ffn_norm = nn.RMSNorm(dim, eps=1e-5)
        self.gate_up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x, cos, sin):
        B, T, C = x.shape
        heads = self.qkv(self.attention_norm(x)).view(B, T, self.heads + 2 * self.kv_heads, self.size).transpose(1, 2)
        qk, v = heads.split([self.heads + self.kv_heads, self.kv_heads], 1)
        first, second = qk.chunk(2, -1)
        qk = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
        q, k = qk.split([self.heads, self.kv_heads], 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.kv_heads != self.heads)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class MobileLLM(nn.Module):
    def __init__(self, vocabSize, dim, layers, heads, kvHeads, hidden, length):
        super().__init__()
        self.embedding = nn.Embedding(vocabSize, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, kvHeads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(dim, eps=1e-5)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, 0, 0.02)
        size = dim // heads
        angles = torch.outer(torch.arange(length), 1e4 ** (-torch.arange(0, size, 2) / size))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


shape = json.loads(sys.argv[1])
rows, length = shape.pop("rows"), shape["length"]
torch.set_num_threads(shape.pop("threads"))
torch.manual_seed(1)
model = MobileLLM(**shape)
parameters = list(model.parameters())
optimizer = torch.optim.AdamW(
    [
        {"params": [p for p in parameters if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ],
    lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True,
)


def step():
    tokens = torch.randint(0, shape["vocabSize"], (rows, length + 1))
    loss = model(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def seconds(steps):
    start = time.perf_counter()
    for _ in range(steps):
        loss = step()
    return {"seconds": time.perf_counter() - start, "loss": loss}


step()  # the first allocates the moments
if "--profile" in sys.argv:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        print(seconds(3))
    print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=45))
else:
    print(json.dumps({"parameters": sum(p.numel() for p in parameters), "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(seconds(int(line))), flush=True)
