#include "core/exec/cuda/cuda_executor.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/check.h"
#include "core/exec/rows/group_draw.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {
namespace {

// Steps with prompts; longer ones use what cuBLASLt prefers.
constexpr int kTunedPromptRows[] = {512, 1024, 2048, 4096, 8192, 16384};

constexpr std::size_t kRememberedSteps = 1 << 16;  // before their times need more memory

Seconds now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

kernels::KvLayout layout_of(const CudaTransformer& model, Tokens slots) {
  const Transformer& shape = model.shape();
  return {shape.layers, shape.kv_heads, shape.head_dim, slots.count(), model.dtype()};
}

std::int64_t table_stride(const Transformer& shape, int block_tokens) {
  return block_tokens > 0 ? ceil_div(shape.max_positions, block_tokens) : 0;
}

// A batch is padded to a size that a graph was captured for: a few per cent of rows more than
// needed.
int padded_batch(int rows) {
  const int step = rows <= 8 ? 1 : rows <= 64 ? 4 : 8;
  return (rows + step - 1) / step * step;
}

struct StepError : kernels::cuda::CudaError {
  using CudaError::CudaError;
};

}  // namespace

CudaExecutor::CudaExecutor(std::shared_ptr<CudaTransformer> model, const KvAllocator& allocator,
                           const CudaExecutorConfig& config)
    : model_(std::move(model)),
      config_(config),
      window_(config.profile_from, config.profile_to),
      histories_(model_->shape().vocab, config.seed),
      rows_(allocator, {.positions = Tokens(model_->shape().max_positions),
                        .slots = allocator.stats(Tier::device).capacity}),
      plans_(layout_of(*model_, allocator.stats(Tier::device).capacity),
             layout_of(*model_, allocator.stats(Tier::host).capacity), config.poison,
             config.dropped_edge),
      beams_(config.max_sequences) {
  const std::int64_t stride = table_stride(model_->shape(), config.block_tokens);
  work_ = std::make_unique<CudaTransformer::Workspace>(*model_, config.max_step_rows,
                                                       config.max_sequences);
  const auto draws = static_cast<std::size_t>(padded_batch(config.max_sequences));
  for (auto& upload : upload_) upload = std::make_unique<RowsUpload>(config.max_step_rows, stride);
  for (Drawn& drawn : drawn_) {
    drawn.token = {draws, "the drawn tokens"};
    drawn.logprob = {draws, "the drawn tokens"};
    drawn.next = {draws, "the drawn tokens"};
    drawn.clock = {2, "a step's times"};
  }
  rows_done_ = {1, "a step's times"};
  rows_done_.fill_bytes(0);
  timings_.reserve(kRememberedSteps);
  if (config.max_graph_rows > 0) capture_graphs();
  KVSTOW_CUDA(cudaDeviceSynchronize());
}

CudaExecutor::~CudaExecutor() {
  cudaDeviceSynchronize();
}

void CudaExecutor::capture_graphs() {
  for (const int rows : kTunedPromptRows) {
    if (rows <= work_->rows()) model_->tune(rows, *work_, compute_);
  }
  const std::int64_t stride = table_stride(model_->shape(), config_.block_tokens);
  const int most = padded_batch(std::min(config_.max_sequences, config_.max_graph_rows));
  graph_work_ = std::make_unique<CudaTransformer::Workspace>(*model_, most, most);
  for (std::size_t parity = 0; parity < kLaunched; ++parity) {
    graph_upload_[parity] = std::make_unique<RowsUpload>(most, stride);
  }
  ForwardRows empty;
  empty.block_tokens = config_.block_tokens;
  for (int rows = 1; rows <= most; rows = padded_batch(rows + 1)) {
    model_->tune(rows, *graph_work_, compute_);
    for (std::size_t parity = 0; parity < kLaunched; ++parity) {
      const DeviceRows padding = graph_upload_[parity]->pack(empty, {}, rows);
      if (config_.mark_launches) graph_work_->mark(&graph_marks_[parity]);
      graph_upload_[parity]->send(compute_);
      const auto capture = [&](Graph& graph, bool halves) {
        graph = Graph(compute_, [&](cudaStream_t stream) {
          forward(padding, halves, parity, *graph_work_, stream);
        });
        // A graph's first launch costs the host several times what later ones do.
        graph.launch(compute_);
      };
      capture(graphs_[parity][rows], false);
      if (can_halve(rows)) capture(halved_[parity][rows], true);
    }
  }
}

// Whether a step of so many rows may ever run in halves. Marks are of one stream.
bool CudaExecutor::can_halve(int rows) const {
  const auto longest = std::int64_t{rows} * model_->shape().max_positions;
  return !config_.mark_launches && model_->has_halves(rows) &&
         (config_.half_batches == HalfBatches::always ||
          (config_.half_batches == HalfBatches::when_faster && model_->halves_pay(rows, longest)));
}

bool CudaExecutor::in_halves(const ForwardRows& rows, int graph) const {
  if (!halved_[0].contains(graph)) return false;
  if (config_.half_batches == HalfBatches::always) return true;
  const auto& lengths = rows.decode_length;
  return model_->halves_pay(graph,
                            std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}));
}

// Layers and draws. The step before has left its tokens in the other buffer.
void CudaExecutor::forward(const DeviceRows& rows, bool halves, std::size_t parity,
                           CudaTransformer::Workspace& work, cudaStream_t stream) {
  LaunchMarks* const marks = work.marks();
  if (marks != nullptr) marks->begin(stream);
  const Drawn& drawn = drawn_[parity];
  const kernels::cuda::StepBegin begin{drawn_[1 - parity].next.get(), drawn.clock.get()};
  halves ? model_->forward_halves(rows, begin, plans_.pool(), work, stream)
         : model_->forward(rows, begin, plans_.pool(), work, stream);
  enter(marks, LaunchClass::sampling, stream);
  kernels::cuda::sample_tokens({.rows = rows.draws,
                                .vocab = model_->shape().vocab,
                                .logits = work.logits(),
                                .logits_stride = model_->shape().vocab,
                                .dtype = kernels::DType::f32,
                                .row = rows.sampling,
                                .seed = config_.seed,
                                .token = drawn.token.get(),
                                .logprob = drawn.logprob.get(),
                                .next_token = drawn.next.get(),
                                .ended = drawn.clock.get() + 1,
                                .rows_done = rows_done_.get()},
                               stream, kernels::cuda::Dependent::yes);
  if (marks != nullptr) marks->end(stream);
}

// A CUDA error names the step it came up in: while one is made ready another is waited for, or
// launched.
template <class Work>
auto CudaExecutor::named(std::int64_t step, const Work& work) {
  try {
    return work();
  } catch (const StepError&) {
    throw;
  } catch (const kernels::cuda::CudaError& error) {
    throw StepError("step " + std::to_string(step) + ": " + error.what());
  }
}

void CudaExecutor::submit(const Step& step) {
  named(submitted_, [&] { submit_unnamed(step); });
}

StepResult CudaExecutor::wait() {
  return named(settled_, [&] { return wait_unnamed(); });
}

void CudaExecutor::submit_unnamed(const Step& step) {
  KVSTOW_CHECK(submitted_ - settled_ < kDepth,
               "more steps in flight than the executor has room for");
  if (submitted_ - finished_ == kLaunched && !last_draws_.suffice(step, histories_)) {
    early_ = named(finished_, [&] { return finish(); });
  }
  Flight& flight = flights_[static_cast<std::size_t>(submitted_ % kDepth)];
  rows_.collect(step, histories_);
  collect_draws(flight);
  flight.timing = {.rows = rows_.rows().rows()};
  ready_ = {.step = &step};
  if (flight.timing.rows > 0) pack_rows(static_cast<std::size_t>(submitted_ % kLaunched));
  drawn_for_.clear();
  for (const auto [seq, request] : flight.draws) {
    drawn_for_.push_back(seq);
    ++histories_.of(seq, *request).on_their_way;
  }
  last_draws_.replace(drawn_for_);
  ++submitted_;
  if (submitted_ - finished_ <= kLaunched) named(launched_, [&] { launch(); });
}

// The step submitted last. The one before the last has ended, its buffers are free.
void CudaExecutor::launch() {
  window_.before(launched_);
  const auto parity = static_cast<std::size_t>(launched_ % kLaunched);
  Flight& flight = flights_[static_cast<std::size_t>(launched_ % kDepth)];
  if (flight.timing.rows > 0) send_rows(parity);
  if (config_.mark_launches) KVSTOW_CUDA(cudaEventRecord(flight.begin, compute_));
  if (config_.dropped_edge == Edge::layers_before_swap) hold_up(compute_);
  run_plan(ready_.step->plan);
  if (config_.mark_launches) KVSTOW_CUDA(cudaEventRecord(flight.planned, compute_));
  if (flight.timing.rows > 0) run_rows(flight, parity);
  KVSTOW_CUDA(cudaEventRecord(flight.done, compute_));
  flight.launched_at = now();
  flight.timing.host = flight.launched_at - visible_at_;
  ++launched_;
}

void CudaExecutor::run_plan(const MemPlan& plan) {
  if (plan.empty()) return;
  const HostProfile::Range range(config_.profile, HostStage::plan, std::ssize(plan.ops()));
  plans_.run(plan, compute_);
}

// One draw for each sequence: samples that still share a history draw from copies of one row.
void CudaExecutor::collect_draws(Flight& flight) {
  flight.draws.clear();
  flight.on_host.clear();
  beams_.begin_step();
  draw_rows_.logits.clear();
  draw_rows_.sampling.clear();
  for (const Draw& draw : rows_.draws()) {
    const StepGroup& group = *draw.group;
    const Request& request = *group.request;
    const Tokens position = output_position(group);
    const bool on_host = decided_on_host(request);
    if (on_host) {
      flight.on_host.push_back({&group, static_cast<int>(draw_rows_.logits.size()), draw.rows});
    }
    const int candidates = on_host && config_.teacher == nullptr ? request.decoding.width : 0;
    beams_.add(candidates);
    const std::size_t count =
        on_host ? static_cast<std::size_t>(draw.rows) : group.sequences.size();
    for (std::size_t i = 0; i < count; ++i) {
      const auto row = static_cast<std::size_t>(draw.first_row) + (draw.rows == 1 ? 0 : i);
      draw_rows_.logits.push_back(rows_.rows().logits[row]);
      draw_rows_.sampling.push_back({.temperature = on_host ? 0 : config_.sampling.temperature,
                                     .top_p = config_.sampling.top_p,
                                     .top_k = config_.sampling.top_k,
                                     .request = request.id.index(),
                                     .sample = static_cast<std::uint32_t>(i),
                                     .output_position = static_cast<std::int32_t>(position.count()),
                                     .candidates = candidates});
      flight.draws.push_back({group.sequences[i], &request});
    }
  }
}

// The number of rows that the step's graph was captured for; 0: it has none.
int CudaExecutor::graph_rows() {
  const ForwardRows& rows = rows_.rows();
  const auto& logits = draw_rows_.logits;
  const int most = graphs_[0].empty() ? 0 : graphs_[0].rbegin()->first;
  if (rows.prompts() > 0 || rows.rows() > most || std::ssize(logits) != rows.rows()) return 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] != static_cast<std::int32_t>(i)) return 0;
  }
  return padded_batch(rows.rows());
}

// Recomputed prompts and static batches may exceed what was foreseen.
void CudaExecutor::make_room(const ForwardRows& rows) {
  KVSTOW_CHECK(std::ssize(draw_rows_.logits) <= config_.max_sequences,
               "a step draws for more sequences than max_sequences");
  if (rows.rows() <= work_->rows() && upload_[0]->holds(rows, draw_rows_)) return;
  KVSTOW_CUDA(cudaDeviceSynchronize());
  const int most = rows.rows() + rows.rows() / 4;
  work_.reset();
  work_ = std::make_unique<CudaTransformer::Workspace>(*model_, most, config_.max_sequences);
  const std::int64_t stride = table_stride(model_->shape(), config_.block_tokens);
  for (auto& upload : upload_) upload = std::make_unique<RowsUpload>(most, stride);
}

void CudaExecutor::pack_rows(std::size_t parity) {
  last_draws_.feed(rows_.rows());
  const ForwardRows& rows = rows_.rows();
  ready_.graph = graph_rows();
  ready_.halves = in_halves(rows, ready_.graph);
  if (ready_.graph == 0) make_room(rows);
  const HostProfile::Range range(config_.profile, HostStage::upload, rows.rows());
  RowsUpload& upload = ready_.graph > 0 ? *graph_upload_[parity] : *upload_[parity];
  ready_.rows = upload.pack(rows, draw_rows_, ready_.graph);
}

// The rows are on their way; what `compute_` does next waits for them.
void CudaExecutor::send_rows(std::size_t parity) {
  const bool graph = ready_.graph > 0;
  const RowsUpload& upload = graph ? *graph_upload_[parity] : *upload_[parity];
  // Only where the rows of an earlier step lie in the same places: others would lead out of the
  // pool.
  const bool too_early = config_.dropped_edge == Edge::rows_before_layers && graph;
  const HostProfile::Range range(config_.profile, HostStage::upload, ready_.rows.rows);
  if (too_early) hold_up(transfer_);
  upload.send(transfer_);
  if (!too_early) upload.arrive_before(compute_);
}

void CudaExecutor::run_rows(Flight& flight, std::size_t parity) {
  const ForwardRows& rows = rows_.rows();
  plans_.before_writing(rows.slot, compute_);
  const int graph = ready_.graph;
  flight.timing.graph = graph > 0;
  flight.timing.halves = ready_.halves;
  const HostProfile::Range range(
      config_.profile, graph > 0 ? HostStage::launch_graph : HostStage::forward, rows.rows());
  if (graph > 0) {
    (ready_.halves ? halved_ : graphs_)[parity].at(graph).launch(compute_);
    flight.logits = graph_work_->logits();
  } else {
    if (config_.profile != nullptr) work_->mark(&single_marks_);
    forward(ready_.rows, false, parity, *work_, compute_);
    flight.logits = work_->logits();
  }
  if (!beams_.any()) return;
  beams_.find({.rows = static_cast<int>(flight.draws.size()),
               .vocab = model_->shape().vocab,
               .logits = flight.logits,
               .logits_stride = model_->shape().vocab,
               .row = ready_.rows.sampling,
               .ended = drawn_[parity].clock.get() + 1,
               .rows_done = rows_done_.get()},
              compute_);
}

StepResult CudaExecutor::wait_unnamed() {
  KVSTOW_CHECK(settled_ < submitted_, "there is no step to wait for");
  const StepResult result = finished_ > settled_ ? early_ : finish();
  ++settled_;
  return result;
}

// Waits for the first step that the device has, and launches the one that is ready before anything
// else.
StepResult CudaExecutor::finish() {
  Flight& flight = flights_[static_cast<std::size_t>(finished_ % kDepth)];
  KVSTOW_CUDA(cudaEventSynchronize(flight.done));
  const Seconds began_at = visible_at_;  // this step could not begin before the last one ended
  visible_at_ = now();
  take_drawn(flight);
  if (config_.mark_launches) read_launches(flight);
  ++finished_;
  if (launched_ < submitted_) named(launched_, [&] { launch(); });
  timings_.push_back(flight.timing);
  tokens_.clear();
  read_tokens(flight);
  draw_on_host(flight);
  if (!flight.on_host.empty()) visible_at_ = now();
  const Seconds elapsed = visible_at_ - std::max(began_at, flight.launched_at);
  return {.elapsed = elapsed, .tokens = tokens_};
}

// Out of the buffers that a later step writes.
void CudaExecutor::take_drawn(Flight& flight) {
  const std::uint64_t before = std::exchange(ended_, 0);
  if (flight.draws.empty()) return;
  const Drawn& drawn = drawn_[static_cast<std::size_t>(finished_ % kLaunched)];
  const std::size_t draws = flight.draws.size();
  token_.assign(drawn.token.get(), drawn.token.get() + draws);
  logprob_.assign(drawn.logprob.get(), drawn.logprob.get() + draws);
  const std::uint64_t began = drawn.clock.get()[0];
  ended_ = drawn.clock.get()[1];
  flight.timing.device = static_cast<double>(ended_ - began) * 1e-9;
  if (before > 0) flight.timing.idle = static_cast<double>(began - before) * 1e-9;
}

void CudaExecutor::read_launches(const Flight& flight) {
  LaunchTimes times;
  if (flight.timing.graph) {
    times = graph_marks_[static_cast<std::size_t>(finished_ % kLaunched)].times(flight.planned);
    times.copies = seconds_between(flight.begin, flight.planned);
  }
  launch_times_.push_back(times);
}

void CudaExecutor::read_tokens(Flight& flight) {
  for (std::size_t i = 0; i < flight.draws.size(); ++i) {
    const auto [seq, request] = flight.draws[i];
    TokenHistory& history = histories_.of(seq, *request);
    --history.on_their_way;
    const std::int32_t token = token_[i];
    check_finite(token >= 0);
    if (decided_on_host(*request)) continue;
    history.tokens.push_back(token);
    tokens_.push_back({seq, seq, token, logprob_[i]});
  }
}

bool CudaExecutor::decided_on_host(const Request& request) const {
  return config_.teacher != nullptr || request.decoding.kind == DecodingKind::beam;
}

// The engine waits for such a step before it makes another: the logits are still there.
void CudaExecutor::draw_on_host(Flight& flight) {
  const int vocab = model_->shape().vocab;
  for (const HostDraw& draw : flight.on_host) {
    if (config_.teacher == nullptr) {
      beams_.choose(*draw.group, draw.first_draw, draw.rows, vocab, histories_, tokens_);
      continue;
    }
    host_logits_.resize(static_cast<std::size_t>(draw.rows) * static_cast<std::size_t>(vocab));
    KVSTOW_CUDA(cudaMemcpy(host_logits_.data(),
                           flight.logits + std::int64_t{draw.first_draw} * vocab,
                           host_logits_.size() * sizeof(float), cudaMemcpyDeviceToHost));
    config_.teacher->draw(*draw.group, host_logits_, vocab, histories_, tokens_);
  }
}

}  // namespace kvstow
