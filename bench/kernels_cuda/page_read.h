// A plain read in the order of decode attention: what pages in random order cost the memory itself.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

namespace kvstow::bench {

// K and V of one layer, f16 of head_dim 128 in blocks of 16 tokens: a block of eight warps reads
// the pages of one row and head, a page a warp at a time (16 runs of 256 bytes of K and of V, all
// in flight), and computes nothing. Two blocks a multiprocessor; items are shared where there are
// few.
void read_pages(const kernels::KvPool& pool, int layer, const kernels::BlockTableMap& map, int rows,
                int pages_per_row, unsigned* sink, int sms, cudaStream_t stream);

}  // namespace kvstow::bench
