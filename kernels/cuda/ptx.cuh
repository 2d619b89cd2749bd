// The few machine instructions that C++ has no name for, one thin function each. Hopper's own
// (bulk copies, programmatic dependent launch, clusters) have an sm_80 form or are absent there.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace kvstow::kernels::cuda::ptx {

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// --- Programmatic dependent launch --------------------------------------------------------------

// Blocks until every earlier kernel of the stream has completed and its writes are visible.
// Without the launch attribute it returns at once.
__device__ __forceinline__ void wait_for_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel's blocks start as soon as all of this grid's blocks have said so.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// The device's clock, in steps of 32 ns on an H200.
__device__ __forceinline__ std::uint64_t nanoseconds() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

// --- Registers from one warpgroup to another ------------------------------------------------------

template <int kRegisters>
__device__ __forceinline__ void more_registers() {
#if __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

template <int kRegisters>
__device__ __forceinline__ void fewer_registers() {
#if __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

// --- mbarrier -----------------------------------------------------------------------------------

__device__ __forceinline__ void barrier_init(std::uint32_t bar, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(arrivals)
               : "memory");
}

// Makes initialised barriers visible to the copy engine.
__device__ __forceinline__ void barrier_init_fence() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

__device__ __forceinline__ void barrier_arrive(std::uint32_t bar) {
  asm volatile("{\n.reg .b64 t;\nmbarrier.arrive.shared.b64 t, [%0];\n}" ::"r"(bar)
               : "memory");
}

// An arrival; the phase also waits for `bytes` of bulk copies.
__device__ __forceinline__ void barrier_expect(std::uint32_t bar, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("{\n.reg .b64 t;\nmbarrier.arrive.expect_tx.shared.b64 t, [%0], %1;\n}" ::"r"(bar),
               "r"(bytes)
               : "memory");
#endif
}

__device__ __forceinline__ void barrier_wait(std::uint32_t bar, std::uint32_t phase) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .pred p;\n"
      "again:\nmbarrier.try_wait.parity.shared.b64 p, [%0], %1;\n"
      "@!p bra again;\n}" ::"r"(bar),
      "r"(phase)
      : "memory");
#else
  std::uint32_t done = 0;
  while (!done) {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(bar), "r"(phase)
        : "memory");
  }
#endif
}

// A barrier among `threads` threads of the block.
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Arrives without waiting at a barrier where others do.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// --- Copies to shared memory --------------------------------------------------------------------

// 16 bytes past L1, to an address in shared memory; L2 fetches the whole 128-byte line at once.
__device__ __forceinline__ void copy16_async(std::uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

// Likewise, or zeros where `valid` is false (then the address must still be a good one).
__device__ __forceinline__ void copy16_async_or_zero(std::uint32_t shared, const void* global,
                                                     bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

__device__ __forceinline__ void prefetch_tensor_map(const void* tensor_map) {
#if __CUDA_ARCH__ >= 900
  asm volatile("prefetch.tensormap [%0];" ::"l"(tensor_map) : "memory");
#endif
}

// A box of a tensor map (its first element's coordinates) to shared memory, by the copy engine; its
// bytes count towards what `bar` expects.
__device__ __forceinline__ void copy_box(std::uint32_t shared, const void* tensor_map, int x0, int x1,
                                         int x2, int x3, std::uint32_t bar) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared),
      "l"(tensor_map), "r"(x0), "r"(x1), "r"(x2), "r"(x3), "r"(bar)
      : "memory");
#endif
}

// Likewise, of what nobody reads again: the first that L2 gives up.
__device__ __forceinline__ void copy_box_once(std::uint32_t shared, const void* tensor_map, int x0,
                                              int x1, int x2, int x3, std::uint32_t bar) {
#if __CUDA_ARCH__ >= 900
  std::uint64_t once;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(once));
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(shared),
      "l"(tensor_map), "r"(x0), "r"(x1), "r"(x2), "r"(x3), "r"(bar), "l"(once)
      : "memory");
#endif
}

// What this thread has copied since the last call is one group; waits until all but the last
// kLeft groups have landed.
__device__ __forceinline__ void copies_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int kLeft>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// One arrival on `bar` once this thread's copies so far have landed.
__device__ __forceinline__ void copies_arrive(std::uint32_t bar) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(bar)
               : "memory");
}

// Asks L2 for a line; nothing is read, so it may come before the writes it would have to see.
__device__ __forceinline__ void prefetch_l2(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

// 8 bytes that L2 keeps longer than what streams through it.
__device__ __forceinline__ void store8_kept(void* global, std::uint32_t x, std::uint32_t y) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .b64 kept;\ncreatepolicy.fractional.L2::evict_last.b64 kept, 1.0;\n"
      "st.global.L2::cache_hint.v2.b32 [%0], {%1, %2}, kept;\n}" ::"l"(global),
      "r"(x), "r"(y)
      : "memory");
#else
  *static_cast<uint2*>(global) = {x, y};
#endif
}

// --- Tensor cores -------------------------------------------------------------------------------

// Four 8x8 matrices of 16-bit elements; thread i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrix_x4(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void load_matrix_x2(std::uint32_t& r0, std::uint32_t& r1,
                                               std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r0), "=r"(r1)
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void load_matrix_x4_transposed(std::uint32_t (&r)[4],
                                                          std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// The transpose of an 8x8 matrix held as one register of two elements a thread.
__device__ __forceinline__ std::uint32_t transpose8x8(std::uint32_t x) {
  std::uint32_t y;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// d (16x8, fp32) += a (16x16) b (16x8).
template <class T>
__device__ __forceinline__ void mma_16816(float (&d)[4], const std::uint32_t (&a)[4],
                                          std::uint32_t b0, std::uint32_t b1) {
  if constexpr (sizeof(T) == 2 && __is_same(T, __half)) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Two floats as two 16-bit elements, the first in the low half.
template <class T>
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  if constexpr (__is_same(T, __half)) {
    const __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&v);
  } else {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&v);
  }
}

template <class T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (__is_same(T, __half)) {
    return __float2half_rn(x);
  } else {
    return __float2bfloat16_rn(x);
  }
}

template <class T>
__device__ __forceinline__ float to_float(T x) {
  if constexpr (__is_same(T, __half)) {
    return __half2float(x);
  } else {
    return __bfloat162float(x);
  }
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// --- Between the blocks of a cluster ------------------------------------------------------------

// The address, in block `rank` of the cluster, of what lies at `shared` in this one.
__device__ __forceinline__ std::uint32_t cluster_address(std::uint32_t shared, int rank) {
#if __CUDA_ARCH__ >= 900
  std::uint32_t remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(shared), "r"(rank));
  return remote;
#else
  return shared;
#endif
}

__device__ __forceinline__ int cluster_rank() {
#if __CUDA_ARCH__ >= 900
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}

// All threads of the cluster arrive, and later wait for each other.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Addresses below are cluster_address()es.
__device__ __forceinline__ float4 load_cluster4(std::uint32_t from) {
  float4 x{};
#if __CUDA_ARCH__ >= 900
  asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
               : "r"(from)
               : "memory");
#endif
  return x;
}

__device__ __forceinline__ void store_cluster4(std::uint32_t to, float4 x) {
#if __CUDA_ARCH__ >= 900
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(to), "f"(x.x), "f"(x.y),
               "f"(x.z), "f"(x.w)
               : "memory");
#endif
}

// A store that counts its 16 bytes towards what `bar`, in the same block as `to`, expects.
__device__ __forceinline__ void store_async4(std::uint32_t to, float4 x, std::uint32_t bar) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1,%2,%3,%4}, [%5];" ::
          "r"(to),
      "r"(__float_as_uint(x.x)), "r"(__float_as_uint(x.y)), "r"(__float_as_uint(x.z)),
      "r"(__float_as_uint(x.w)), "r"(bar)
      : "memory");
#endif
}

__device__ __forceinline__ void barrier_arrive_cluster(std::uint32_t bar) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(bar)
               : "memory");
#endif
}

// As barrier_wait, for what other blocks of the cluster did before they arrived.
__device__ __forceinline__ void barrier_wait_cluster(std::uint32_t bar, std::uint32_t phase) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .pred p;\n"
      "again:\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n"
      "@!p bra again;\n}" ::"r"(bar),
      "r"(phase)
      : "memory");
#endif
}

}  // namespace kvstow::kernels::cuda::ptx
