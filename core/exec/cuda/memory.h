// Memory and events of one GPU as values. Everything is allocated once, at the start: a device that
// is too small says so before the run, in one line.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace kvstow {

// Throws InputError: no driver, no device, or one older than the kernels (sm_80).
void require_cuda_device();

struct DeviceFree {
  void operator()(void* p) const { cudaFree(p); }
};
struct PinnedFree {
  void operator()(void* p) const { cudaFreeHost(p); }
};

namespace detail {
[[nodiscard]] void* device_bytes(std::size_t bytes, const std::string& what);
[[nodiscard]] void* pinned_bytes(std::size_t bytes, const std::string& what);
void fill_bytes(void* at, int byte, std::size_t bytes);
}  // namespace detail

// `count` elements; throws InputError naming `what` where memory is short.
template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(std::size_t count, const std::string& what)
      : data_(static_cast<T*>(detail::device_bytes(count * sizeof(T), what))), size_(count) {}
  [[nodiscard]] T* get() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  // Every byte; done when it returns.
  void fill_bytes(int byte) { detail::fill_bytes(get(), byte, size_ * sizeof(T)); }

 private:
  std::unique_ptr<T, DeviceFree> data_;
  std::size_t size_ = 0;
};

// Host memory that the device reads and writes by itself.
template <class T>
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(std::size_t count, const std::string& what)
      : data_(static_cast<T*>(detail::pinned_bytes(count * sizeof(T), what))), size_(count) {}
  [[nodiscard]] T* get() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::unique_ptr<T, PinnedFree> data_;
  std::size_t size_ = 0;
};

class Stream {
 public:
  Stream();
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }  // NOLINT: it is one

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  // cudaEventDisableTiming: orders and is waited for, but has no time.
  explicit Event(unsigned flags = cudaEventDefault);
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }  // NOLINT: it is one

 private:
  cudaEvent_t event_ = nullptr;
};

// Between two events that the device has passed.
[[nodiscard]] double seconds_between(const Event& from, const Event& to);

// A captured run of launches, ready to be repeated.
class Graph {
 public:
  Graph() = default;
  // Captures what `record(stream)` puts into the stream.
  template <class Record>
  Graph(cudaStream_t stream, const Record& record) {
    begin(stream);
    record(stream);
    end(stream);
  }
  ~Graph();
  Graph(Graph&& other) noexcept : exec_(std::exchange(other.exec_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(exec_, other.exec_);
    return *this;
  }
  [[nodiscard]] explicit operator bool() const { return exec_ != nullptr; }
  void launch(cudaStream_t stream) const;

 private:
  static void begin(cudaStream_t stream);
  void end(cudaStream_t stream);
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace kvstow
