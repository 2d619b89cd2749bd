// NVTX ranges for Nsight: domains, registered names, one integer as payload. Nothing at all in a
// build without a CUDA toolkit (KVSTOW_NVTX); without a profiler attached a call is a null check.
#pragma once

#include <cstdint>

#ifdef KVSTOW_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace kvstow::nvtx {

#ifdef KVSTOW_NVTX

using Name = nvtxStringHandle_t;

// Ranges nest within a domain. Domains of the same name are distinct: make each once.
class Domain {
 public:
  explicit Domain(const char* name) : handle_(nvtxDomainCreateA(name)) {}
  [[nodiscard]] Name name(const char* text) const {
    return nvtxDomainRegisterStringA(handle_, text);
  }
  void push(Name name, std::int64_t payload) const {
    nvtxEventAttributes_t range{};
    range.version = NVTX_VERSION;
    range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    range.payloadType = NVTX_PAYLOAD_TYPE_INT64;
    range.payload.llValue = payload;
    range.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
    range.message.registered = name;
    nvtxDomainRangePushEx(handle_, &range);
  }
  void pop() const { nvtxDomainRangePop(handle_); }

 private:
  nvtxDomainHandle_t handle_;
};

#else

struct Name {};

class Domain {
 public:
  explicit Domain(const char* /*name*/) {}
  [[nodiscard]] Name name(const char* /*text*/) const { return {}; }
  void push(Name /*name*/, std::int64_t /*payload*/) const {}
  void pop() const {}
};

#endif

inline const Domain& engine_domain() {
  static const Domain domain("engine");
  return domain;
}
inline const Domain& allocator_domain() {
  static const Domain domain("allocator");
  return domain;
}
inline const Domain& kernels_domain() {
  static const Domain domain("kernels");
  return domain;
}

}  // namespace kvstow::nvtx
