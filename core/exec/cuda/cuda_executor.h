// Carries steps out on a GPU: the same Step, rows and promises as the CPU executor, with three
// steps in flight: one that the device runs, one behind it in the stream, and one that is ready but
// for its launch, which takes over the buffers of the first as soon as that has ended.
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

#include "core/exec/cuda/beam_draws.h"
#include "core/exec/cuda/cuda_transformer.h"
#include "core/exec/cuda/plan_runner.h"
#include "core/exec/cuda/profiler_window.h"
#include "core/exec/half_batches.h"
#include "core/exec/rows/computing_executor.h"
#include "core/exec/rows/last_draws.h"
#include "core/exec/rows/sampling.h"
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
  HalfBatches half_batches = HalfBatches::when_faster;  // of steps that run as graphs
  // Overwrites slots with NaN when a plan frees them, and the pool before anything is written. For
  // verification.
  bool poison = false;
  Teacher* teacher = nullptr;      // draws instead of the executor
  Edge dropped_edge = Edge::none;  // to see that verification notices
  std::int64_t profile_from = 0;   // steps [from, to) are shown to an attached profiler
  std::int64_t profile_to = 0;
  HostProfile* profile = nullptr;  // the engine's
  bool mark_launches = false;      // graphs hold events between the classes of kernels; no halves
};

// Where a step's time went on the host, beside what the device says. Seconds.
struct StepTiming {
  // By the device's clock, 0 for a step that draws nothing: from the first block of its layers to
  // its last draw, and before that from the last draw of the step before.
  Seconds device = 0;
  Seconds idle = 0;
  Seconds host = 0;  // from the tokens of an earlier step to this step's launch
  int rows = 0;
  bool graph = false;
  bool halves = false;  // its rows went in two halves
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
  [[nodiscard]] const std::vector<StepTiming>& timings() const { return timings_; }
  // Of every step that was waited for, where launches are marked; zeros where it was no graph.
  [[nodiscard]] const std::vector<LaunchTimes>& launch_times() const { return launch_times_; }

 private:
  static constexpr int kLaunched = 2;           // steps that the device has
  static constexpr int kDepth = kLaunched + 1;  // and one that it gets next

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
    Event done{cudaEventDisableTiming};
    Event begin, planned;  // the memory plan begins, and is done; where launches are marked
    Seconds launched_at = 0;
    StepTiming timing;
  };
  // What the device writes for a step: every second one uses the same.
  struct Drawn {
    PinnedBuffer<std::int32_t> token;  // [draws]
    PinnedBuffer<float> logprob;
    DeviceBuffer<std::int32_t> next;    // the tokens, for the next step's embedding
    PinnedBuffer<std::uint64_t> clock;  // when the step began, and drew its last row
  };
  // The step submitted last, until it is launched: its layers by the graph for so many rows, or (0)
  // one by one.
  struct Ready {
    const Step* step = nullptr;
    int graph = 0;
    bool halves = false;
    DeviceRows rows;
  };

  template <class Work>
  auto named(std::int64_t step, const Work&);
  void submit_unnamed(const Step&);
  StepResult wait_unnamed();
  void capture_graphs();
  void run_plan(const MemPlan&);
  void collect_draws(Flight&);
  void make_room(const ForwardRows&);
  void pack_rows(std::size_t parity);
  void launch();
  void send_rows(std::size_t parity);
  void run_rows(Flight&, std::size_t parity);
  void forward(const DeviceRows&, bool halves, std::size_t parity, CudaTransformer::Workspace&,
               cudaStream_t);
  [[nodiscard]] bool can_halve(int rows) const;
  [[nodiscard]] bool in_halves(const ForwardRows&, int graph) const;
  [[nodiscard]] StepResult finish();
  void take_drawn(Flight&);
  void read_launches(const Flight&);
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
  LastDraws last_draws_;          // of the step submitted last
  std::vector<SeqId> drawn_for_;  // by it
  Ready ready_;

  PlanRunner plans_;

  Stream compute_, transfer_;
  // For steps that run as graphs, and for the others, whose size nobody knows beforehand.
  std::unique_ptr<CudaTransformer::Workspace> graph_work_, work_;
  std::array<std::unique_ptr<RowsUpload>, kLaunched> graph_upload_, upload_;
  std::array<std::map<int, Graph>, kLaunched> graphs_;  // by padded rows
  std::array<std::map<int, Graph>, kLaunched> halved_;  // likewise, where rows can go in halves
  std::array<Drawn, kLaunched> drawn_;
  BeamDraws beams_;  // of the step submitted last
  std::array<Flight, kDepth> flights_;
  std::array<LaunchMarks, kLaunched> graph_marks_{LaunchMarks(LaunchMarks::By::captured_events),
                                                  LaunchMarks(LaunchMarks::By::captured_events)};
  LaunchMarks single_marks_{LaunchMarks::By::ranges};
  std::vector<float> host_logits_;

  std::int64_t submitted_ = 0;
  std::int64_t launched_ = 0;
  std::int64_t finished_ = 0;  // their tokens are in the histories
  std::int64_t settled_ = 0;   // they were waited for
  StepResult early_;           // of a step that finished before it was waited for

  DeviceBuffer<std::uint32_t> rows_done_;  // by the step's sampling
  std::uint64_t ended_ = 0;          // the device's clock after the last step; 0: that drew nothing
  Seconds visible_at_ = 0;           // when the last tokens became visible
  std::vector<std::int32_t> token_;  // of the step that has just finished
  std::vector<float> logprob_;
  std::vector<TokenOut> tokens_;
  std::vector<StepTiming> timings_;  // of the steps that have finished
  std::vector<LaunchTimes> launch_times_;
};

}  // namespace kvstow
