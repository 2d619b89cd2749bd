#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/prefill_attention.h"

namespace kvstow::kernels::cuda {

// In a source file for each dtype.
template <class T, class Map>
void launch_prefill(const PrefillAttentionArgs<Map>& a, int rows, cudaStream_t stream,
                    Dependent dependent);

template <class Map>
void prefill_attention(const PrefillAttentionArgs<Map>& a, int rows, cudaStream_t stream,
                       Dependent dependent) {
  constexpr const char* kName = "prefill_attention";
  const KvLayout& layout = a.pool.layout;
  require(a.dtype == layout.dtype, kName, "pool and rows differ in dtype");
  require(layout.kv_heads > 0 && a.heads % layout.kv_heads == 0, kName,
          "heads is not a multiple of kv_heads");
  require(a.q_stride % 8 == 0 && a.out_stride % 8 == 0, kName,
          "a stride is not a multiple of 8 elements");
  require(layout.slots < (std::int64_t{1} << 31), kName, "more than 2^31 slots");
  if (rows == 0 || a.sequences == 0) return;
  with_dtype(a.dtype, kName,
             [&]<class T>() { launch_prefill<T, Map>(a, rows, stream, dependent); });
}

template void prefill_attention(const PrefillAttentionArgs<AffineMap>&, int, cudaStream_t,
                                Dependent);
template void prefill_attention(const PrefillAttentionArgs<BlockTableMap>&, int, cudaStream_t,
                                Dependent);

}  // namespace kvstow::kernels::cuda
