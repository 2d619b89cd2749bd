// What both kernels refuse, and how they are launched.
#pragma once

#include <stdexcept>
#include <string>

#include "kernels/cuda/launch.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda::museum {

template <class Map>
void launch_rows(const char* name, void (*kernel)(DecodeAttentionArgs<Map>), int threads,
                 const DecodeAttentionArgs<Map>& a, int max_length, cudaStream_t stream) {
  constexpr int kLogits = 56'000;  // 219 of the 227 KB; outputs are added up in the rest
  const KvLayout& layout = a.pool.layout;
  const auto refuse = [&](const std::string& what) {
    throw std::invalid_argument(std::string(name) + ": " + what);
  };
  if (layout.head_dim != 128) refuse("head_dim is not 128");
  if (a.dtype != DType::f16 || layout.dtype != DType::f16) refuse("dtype is not f16");
  if (a.heads % layout.kv_heads != 0) refuse("heads is no multiple of kv_heads");
  if (a.q_stride % 8 != 0) refuse("q_stride must be a multiple of 8");
  if (max_length > kLogits) refuse("longer than " + std::to_string(kLogits) + " tokens");
  if (a.rows == 0) return;
  const std::size_t bytes = static_cast<std::size_t>(max_length) * sizeof(float);
  KVSTOW_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(bytes)));
  launch(name, kernel,
         {.grid = dim3(static_cast<unsigned>(a.heads), static_cast<unsigned>(a.rows)),
          .block = dim3(static_cast<unsigned>(threads)),
          .shared_bytes = bytes},
         stream, a);
}

}  // namespace kvstow::kernels::cuda::museum
