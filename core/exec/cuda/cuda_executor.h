// Carries steps out on a GPU: the same Step, rows and promises as the CPU executor, with two steps
// in flight, so that the host decides the next step while the device runs this one.
//
// One compute stream orders a step's copies, layers and draws; swaps have their own
// (plan_runner.h). Rows go over on a third, into one of two buffers that no running step reads. A
// step of decodes only is one graph launch; lengths, tables and tokens are read on the device,
// where the tokens of the step before may not even be known to the host.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "core/engine/sampling.h"
#include "core/exec/cuda/cuda_transformer.h"
#include "core/exec/cuda/plan_runner.h"
#include "core/exec/cuda/profiler_window.h"
#include "core/exec/rows/computing_executor.h"
#include "core/exec/rows/step_rows.h"
#include "core/kv/kv_allocator.h"
#include "core/metrics/host_profile.h"

namespace kvstow {

struct CudaExecutorConfig {
  std::uint64_t seed = 1;
  SamplingConfig sampling;
  int block_tokens = 0;      // of the allocator's block tables; 0: it hands out extents
  int max_step_rows = 4096;  // of one step; a longer one makes the buffers grow, at a price
  int max_sequences = 256;   // drawn for in one step
  int max_graph_rows = 256;  // longest batch of decodes that runs as a graph; 0: none does
  // Overwrites slots with NaN when a plan frees them, and the pool before anything is written. For
  // verification.
  bool poison = false;
  Teacher* teacher = nullptr;      // draws instead of the executor
  Edge dropped_edge = Edge::none;  // to see that verification notices
  std::int64_t profile_from = 0;   // steps [from, to) are shown to an attached profiler
  std::int64_t profile_to = 0;
  HostProfile* profile = nullptr;  // the engine's
  bool mark_launches = false;      // graphs hold events between the classes of kernels
};

// Where a step's time went on the host, beside what the device says. Seconds.
struct StepTiming {
  // On the device. A graph's by the device's clock: idle ends when its first block begins, and the
  // step ends when its last row is drawn. Of other steps by events: idle ends where the stream is
  // ready for the step's first work.
  Seconds device = 0;
  Seconds idle = 0;  // before the step
  Seconds host = 0;  // from the tokens of an earlier step to this step's launch
  int rows = 0;
  bool graph = false;
};

class CudaExecutor final : public ComputingExecutor {
 public:
  // The pools are exactly the allocator's tiers. The allocator must outlive the executor and, while
  // submit() runs, be in the state that the step was made in. Throws InputError where memory is
  // short.
  CudaExecutor(std::shared_ptr<CudaTransformer>, const KvAllocator&, const CudaExecutorConfig&);
  ~CudaExecutor() override;

  void submit(const Step&) override;
  StepResult wait() override;
  [[nodiscard]] int depth() const override { return config_.teacher == nullptr ? kDepth : 1; }
  [[nodiscard]] std::uint64_t token_hash(SeqId seq) const override { return histories_.hash(seq); }
  void read_pool(Tier tier, PoolImage& image) override { plans_.read(tier, image); }

  // Of every step that was waited for.
  [[nodiscard]] const std::vector<StepTiming>& timings() {
    read_times();
    return timings_;
  }
  // Of every step that was waited for, where launches are marked; zeros where it was no graph.
  [[nodiscard]] const std::vector<LaunchTimes>& launch_times() const { return launch_times_; }

 private:
  static constexpr int kDepth = 2;

  // What is drawn for one sequence: number i of the step's draws.
  struct DrawnRow {
    SeqId seq;
    const Request* request;
  };
  // A group whose tokens the host decides: beams, and everything under a teacher.
  struct HostDraw {
    const StepGroup* group;
    int first_draw;
    int rows;  // of logits: one while the sequences share a history
  };
  struct Flight {
    std::vector<DrawnRow> draws;
    std::vector<HostDraw> on_host;
    const float* logits = nullptr;
    PinnedBuffer<std::int32_t> token;   // [draws] written by the device
    DeviceBuffer<std::int32_t> drawn;   // the same for the next step's embedding
    PinnedBuffer<std::uint64_t> clock;  // of the device: when it began, and drew its last row
    PinnedBuffer<float> logprob;
    Event sent;
    Seconds submitted_at = 0;
    Event planned;  // the memory plan is done; where launches are marked
    StepTiming timing;
  };
  // How a step's layers are launched: the graph for so many rows, or (0) one by one.
  struct Launches {
    int graph = 0;
    DeviceRows rows;
  };
  // A step's first and last moment. Kept for longer than the step, to see what lies between two.
  struct Marks {
    Event begin, done;
  };

  template <class Work>
  auto named(std::int64_t step, const Work&);
  void submit_unnamed(const Step&);
  StepResult wait_unnamed();
  void capture_graphs();
  void run_plan(const MemPlan&);
  void collect_draws(Flight&);
  void feed_from_last_step();
  void make_room(const ForwardRows&);
  [[nodiscard]] Launches send_rows(Flight&, std::size_t parity);
  void run_rows(Flight&, std::size_t parity, const Launches&);
  void forward(const DeviceRows&, std::size_t parity, CudaTransformer::Workspace&, cudaStream_t);
  void read_clock(Flight&);
  void read_times();
  void read_launches(const Flight&, const Marks&);
  void read_tokens(Flight&);
  void draw_on_host(Flight&);
  [[nodiscard]] bool decided_on_host(const Request&) const;
  [[nodiscard]] int graph_rows();

  std::shared_ptr<CudaTransformer> model_;
  CudaExecutorConfig config_;
  ProfilerWindow window_;
  TokenHistories histories_;
  StepRows rows_;
  DrawRows draw_rows_;
  std::vector<std::int32_t> draw_of_;  // by SeqId: its draw in the step submitted last

  PlanRunner plans_;

  Stream compute_, transfer_;
  // For steps that run as graphs, and for the others, whose size nobody knows beforehand.
  std::unique_ptr<CudaTransformer::Workspace> graph_work_, work_;
  std::array<std::unique_ptr<RowsUpload>, kDepth> graph_upload_, upload_;
  std::array<std::map<int, Graph>, kDepth> graphs_;  // by padded rows
  std::array<Flight, kDepth> flights_;
  std::array<Marks, 2 * kDepth> marks_;
  std::array<LaunchMarks, kDepth> graph_marks_{LaunchMarks(LaunchMarks::By::captured_events),
                                               LaunchMarks(LaunchMarks::By::captured_events)};
  LaunchMarks single_marks_{LaunchMarks::By::ranges};
  std::vector<float> host_logits_;

  std::int64_t submitted_ = 0;
  std::int64_t settled_ = 0;
  DeviceBuffer<std::uint32_t> rows_done_;  // by the step's sampling
  std::uint64_t ended_ = 0;  // the device's clock after the last step; 0: that drew nothing
  Seconds visible_at_ = 0;   // when the last tokens became visible
  std::vector<TokenOut> tokens_;
  std::vector<StepTiming> timings_;  // of the steps that were waited for
  std::int64_t timed_ = 0;           // of those, how many have their device times
  std::vector<LaunchTimes> launch_times_;
};

}  // namespace kvstow
