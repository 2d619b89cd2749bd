// Hopper's warpgroup products: descriptors of operands in shared memory and the instructions, one
// thin function each. Empty where the target is not sm_90a.
//
// An operand lies in panels of 64 columns: rows of 128 bytes, whose eight 16-byte vectors stand in
// the order vector ^ (row % 8) (the tensor copies' 128-byte swizzle). Panels begin at multiples of
// 1024 bytes.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace kvstow::kernels::cuda::wgmma {

// Of 8 rows, between which the swizzle repeats.
inline constexpr int kGroupBytes = 1024;

// Where vector `vector` (16 bytes) of row `row` lies in a panel.
__device__ __forceinline__ int swizzled(int row, int vector) {
  return row * 128 + (vector ^ (row % 8)) * 16;
}

// A descriptor; adding bytes / 16 moves it. Rows run along M or N, columns along K: column 16 i of
// a panel is i * 32 bytes further.
__device__ __forceinline__ std::uint64_t describe(std::uint32_t address) {
  return std::uint64_t{1} << 62 | std::uint64_t{kGroupBytes / 16} << 32 | std::uint64_t{1} << 16 |
         (address & 0x3ffff) >> 4;
}

// Rows run along K, columns along N (a B operand to be transposed): `panel_bytes` between panels;
// row 16 i is i * 2048 bytes further.
__device__ __forceinline__ std::uint64_t describe_transposed(std::uint32_t address,
                                                             int panel_bytes) {
  return std::uint64_t{1} << 62 | std::uint64_t{kGroupBytes / 16} << 32 |
         static_cast<std::uint64_t>(panel_bytes / 16) << 16 | (address & 0x3ffff) >> 4;
}

// Registers written before are seen by the products issued after.
__device__ __forceinline__ void fence() {
#if __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void commit() {
#if __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// Until at most kPending committed groups are under way.
template <int kPending>
__device__ __forceinline__ void wait() {
#if __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#endif
}

// Generic stores to shared memory are seen by products (and by the copy engine) issued after.
__device__ __forceinline__ void fence_shared() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Keeps the compiler from moving what computes or reads these registers across this point: while a
// product is under way they are not its to touch.
template <class R, int kCount>
__device__ __forceinline__ void pin(R (&r)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if constexpr (__is_same(R, float)) {
      asm volatile("" : "+f"(r[i])::"memory");
    } else {
      asm volatile("" : "+r"(r[i])::"memory");
    }
  }
}

#define KVSTOW_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define KVSTOW_8(d, i) KVSTOW_4(d, i), KVSTOW_4(d, i + 4)
#define KVSTOW_16(d, i) KVSTOW_4(d, i), KVSTOW_4(d, i + 4), KVSTOW_4(d, i + 8), KVSTOW_4(d, i + 12)
#define KVSTOW_32(d) KVSTOW_16(d, 0), KVSTOW_16(d, 16)
#define KVSTOW_48(d) KVSTOW_32(d), KVSTOW_16(d, 32)
#define KVSTOW_64(d) KVSTOW_16(d, 0), KVSTOW_16(d, 16), KVSTOW_16(d, 32), KVSTOW_16(d, 48)
#define KVSTOW_56(d) KVSTOW_48(d), KVSTOW_8(d, 48)
#define KVSTOW_80(d) KVSTOW_64(d), KVSTOW_16(d, 64)
#define KVSTOW_96(d) KVSTOW_80(d), KVSTOW_16(d, 80)
#define KVSTOW_112(d) KVSTOW_96(d), KVSTOW_16(d, 96)
#define KVSTOW_LIST_4 "{%0,%1,%2,%3}"
#define KVSTOW_LIST_8 "{%0,%1,%2,%3,%4,%5,%6,%7}"
#define KVSTOW_LIST_16 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}"
#define KVSTOW_LIST_32                                                              \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21," \
  "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}"
#define KVSTOW_LIST_48                                                               \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,"  \
  "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41," \
  "%42,%43,%44,%45,%46,%47}"
#define KVSTOW_LIST_64                                                                   \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,"      \
  "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42," \
  "%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"
#define KVSTOW_LIST_56                                                           \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,"  \
  "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39," \
  "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55}"
#define KVSTOW_LIST_80                                                           \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,"  \
  "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39," \
  "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58," \
  "%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77," \
  "%78,%79}"
#define KVSTOW_LIST_96                                                           \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,"  \
  "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39," \
  "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58," \
  "%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77," \
  "%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95}"
#define KVSTOW_LIST_112                                                          \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,"  \
  "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39," \
  "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58," \
  "%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77," \
  "%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96," \
  "%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111}"

#define KVSTOW_WGMMA(n, type, list, operands, add, flags)                               \
  "{\n.reg .pred p;\nsetp.ne.b32 p, " add                                               \
  ", 0;\n"                                                                              \
  "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " " list ", " operands \
  ", p, 1, 1, " flags ";\n}"

#define KVSTOW_PRODUCT(n, list, registers, operands, add)              \
  if constexpr (kN == n && __is_same(T, __half)) {                     \
    asm volatile(KVSTOW_WGMMA(#n, "f16", list, operands, add, "0, 0")  \
                 : registers                                           \
                 : "l"(a), "l"(b), "r"(plus));                         \
  } else if constexpr (kN == n) {                                      \
    asm volatile(KVSTOW_WGMMA(#n, "bf16", list, operands, add, "0, 0") \
                 : registers                                           \
                 : "l"(a), "l"(b), "r"(plus));                         \
  }

// d = a b^T, plus d where `add`: a 64 x 16, b kN x 16, d the first kN / 2 registers. Register 4 n +
// 2 h + c of lane l of warp w is row 16 w + l / 4 + 8 h, column 8 n + l % 4 * 2 + c.
template <class T, int kN, int kCount>
__device__ __forceinline__ void product(float (&d)[kCount], std::uint64_t a, std::uint64_t b,
                                        bool add) {
  static_assert((kN == 8 || kN == 16 || kN == 32 || kN == 64 || kN == 96 || kN == 112 ||
                 kN == 128 || kN == 160 || kN == 192 || kN == 224) &&
                kN <= 2 * kCount);
#if __CUDA_ARCH_FEAT_SM90_ALL
  const int plus = add;
  KVSTOW_PRODUCT(8, KVSTOW_LIST_4, KVSTOW_4(d, 0), "%4, %5", "%6")
  KVSTOW_PRODUCT(16, KVSTOW_LIST_8, KVSTOW_8(d, 0), "%8, %9", "%10")
  KVSTOW_PRODUCT(32, KVSTOW_LIST_16, KVSTOW_16(d, 0), "%16, %17", "%18")
  KVSTOW_PRODUCT(64, KVSTOW_LIST_32, KVSTOW_32(d), "%32, %33", "%34")
  KVSTOW_PRODUCT(96, KVSTOW_LIST_48, KVSTOW_48(d), "%48, %49", "%50")
  KVSTOW_PRODUCT(112, KVSTOW_LIST_56, KVSTOW_56(d), "%56, %57", "%58")
  KVSTOW_PRODUCT(128, KVSTOW_LIST_64, KVSTOW_64(d), "%64, %65", "%66")
  KVSTOW_PRODUCT(160, KVSTOW_LIST_80, KVSTOW_80(d), "%80, %81", "%82")
  KVSTOW_PRODUCT(192, KVSTOW_LIST_96, KVSTOW_96(d), "%96, %97", "%98")
  KVSTOW_PRODUCT(224, KVSTOW_LIST_112, KVSTOW_112(d), "%112, %113", "%114")
#endif
}

// d = a b, plus d where `add`: a 64 x 16 in registers (2 h + c of column block n packed in register
// 2 n + h), b 16 x 128 or 16 x 64.
template <class T, int kCount>
__device__ __forceinline__ void product(float (&d)[kCount], std::uint32_t a0, std::uint32_t a1,
                                        std::uint32_t a2, std::uint32_t a3, std::uint64_t b,
                                        bool add) {
  static_assert(kCount == 64 || kCount == 32);
#if __CUDA_ARCH_FEAT_SM90_ALL
  const int plus = add;
  if constexpr (kCount == 64 && __is_same(T, __half)) {
    asm volatile(KVSTOW_WGMMA("128", "f16", KVSTOW_LIST_64, "{%64,%65,%66,%67}, %68", "%69", "1")
                 : KVSTOW_64(d)
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(plus));
  } else if constexpr (kCount == 64) {
    asm volatile(KVSTOW_WGMMA("128", "bf16", KVSTOW_LIST_64, "{%64,%65,%66,%67}, %68", "%69", "1")
                 : KVSTOW_64(d)
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(plus));
  } else if constexpr (__is_same(T, __half)) {
    asm volatile(KVSTOW_WGMMA("64", "f16", KVSTOW_LIST_32, "{%32,%33,%34,%35}, %36", "%37", "1")
                 : KVSTOW_32(d)
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(plus));
  } else {
    asm volatile(KVSTOW_WGMMA("64", "bf16", KVSTOW_LIST_32, "{%32,%33,%34,%35}, %36", "%37", "1")
                 : KVSTOW_32(d)
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(plus));
  }
#endif
}

#undef KVSTOW_4
#undef KVSTOW_8
#undef KVSTOW_16
#undef KVSTOW_32
#undef KVSTOW_48
#undef KVSTOW_64
#undef KVSTOW_56
#undef KVSTOW_80
#undef KVSTOW_96
#undef KVSTOW_112
#undef KVSTOW_LIST_4
#undef KVSTOW_LIST_8
#undef KVSTOW_LIST_16
#undef KVSTOW_LIST_32
#undef KVSTOW_LIST_48
#undef KVSTOW_LIST_64
#undef KVSTOW_LIST_56
#undef KVSTOW_LIST_80
#undef KVSTOW_LIST_96
#undef KVSTOW_LIST_112
#undef KVSTOW_PRODUCT
#undef KVSTOW_WGMMA

}  // namespace kvstow::kernels::cuda::wgmma
