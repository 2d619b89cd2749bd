// A plain read in the order of decode attention: what pages in random order cost the memory itself.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

namespace kvstow::bench {

// K and V of one layer, f16 of head_dim 128 in blocks of 16 tokens: a block of eight warps fetches
// the pages of one row and head as attention does, a page a warp at a time: 16 runs of 256 bytes of
// K to where K of the page before was, then of V; and computes nothing. Two blocks a
// multiprocessor; items are shared where there are few.
void read_pages(const kernels::KvPool& pool, int layer, const kernels::BlockTableMap& map, int rows,
                int pages_per_row, int sms, cudaStream_t stream);

}  // namespace kvstow::bench
