// Decode kernels as they were in 2023, kept to redraw Fig. 18 of the PagedAttention paper beside
// ours on one device. Same arguments, same layout of K and V, f16 and head_dim 128 only.
//
// Both give one block of threads to a row and a query head: logits of the whole context go to
// shared memory, a softmax runs over them there, then the values are added up. Nothing is split
// over the context and query heads of a group share no reads.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

namespace kvstow::kernels::cuda::museum {

// The paper's kernel (Section 5.1) as vLLM 0.1 had it: a warp for each KV block. Blocks of 1, 2, 4,
// ... 256 tokens. max_length: no row is longer (it sizes the logits; 56,000 fit).
//
// Faithful: 128 threads; four warps take blocks in turn and read the id of each as they come to it;
// a warp has up to 16 tokens of K in flight, so that small blocks leave it idle; logits and sums in
// fp32; the warps' outputs are added through shared memory.
// Not: K and V lie as everywhere in this laboratory, [slot][head][dim], instead of K as
// [block][head][dim / 8][token][8] and V as [block][head][dim][token]. There 32 / block_tokens
// lanes had a token each and a warp's loads were consecutive; here 16 lanes read one token's
// consecutive bytes (with the lanes dealt as there, blocks from 16 on took up to twice as long).
// Probabilities stay fp32 (there they were rounded to f16).
void paper_2023_decode(const DecodeAttentionArgs<BlockTableMap>&, int max_length,
                       cudaStream_t stream);

// FasterTransformer's masked multi-head attention: K and V of a row are contiguous. 64, 128 or 256
// threads by max_length (below 32, below 2048, from there), tokens dealt to all of them in turn;
// each has 4, 8 or 16 loads of K in flight and one of V.
//
// Not faithful: the layout and so the lanes of a token of K, as above (there 4, 2 or 1); the new
// token's K and V are read from the cache like the rest (there the kernel also wrote them, after
// bias and rotation).
void faster_transformer_decode(const DecodeAttentionArgs<AffineMap>&, int max_length,
                               cudaStream_t stream);

}  // namespace kvstow::kernels::cuda::museum
