#include "kernels/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace kvstow::kernels::reference {
namespace {

const float* floats(const void* p) {
  return static_cast<const float*>(p);
}
float* floats(void* p) {
  return static_cast<float*>(p);
}

// One query vector against positions [0, length): the textbook softmax(q K^T) V.
template <class Map>
void attend(const KvPool& pool, int layer, const Map& map, std::int64_t row, int kv_head,
            std::int64_t length, const float* q, float scale, float* out) {
  const KvLayout& layout = pool.layout;
  const auto vector = [&](int part, std::int64_t position) {
    return floats(pool.data) + layout.part_offset(layer, part) +
           map.slot(row, position) * layout.slot_stride() +
           static_cast<std::int64_t>(kv_head) * layout.head_dim;
  };
  std::vector<double> p(static_cast<std::size_t>(length));
  double largest = -INFINITY;
  for (std::int64_t t = 0; t < length; ++t) {
    double dot = 0;
    for (int d = 0; d < layout.head_dim; ++d) dot += double{q[d]} * double{vector(0, t)[d]};
    largest = std::max(largest, p[t] = dot * double{scale});
  }
  double sum = 0;
  for (double& x : p) sum += x = std::exp(x - largest);
  for (int d = 0; d < layout.head_dim; ++d) {
    double acc = 0;
    for (std::int64_t t = 0; t < length; ++t) acc += p[t] * double{vector(1, t)[d]};
    out[d] = length == 0 ? 0.0f : static_cast<float>(acc / sum);
  }
}

}  // namespace

void write_kv(const WriteKvArgs& a) {
  const KvLayout& layout = a.pool.layout;
  const std::int64_t width = layout.slot_stride();
  for (int row = 0; row < a.rows; ++row) {
    if (a.slots[row] < 0) continue;
    for (std::int64_t i = 0; i < width; ++i) {
      const std::int64_t at = a.slots[row] * width + i;
      floats(a.pool.data)[layout.part_offset(a.layer, 0) + at] = floats(a.k)[row * a.k_stride + i];
      floats(a.pool.data)[layout.part_offset(a.layer, 1) + at] = floats(a.v)[row * a.v_stride + i];
    }
  }
}

template <class Map>
void decode_attention(const DecodeAttentionArgs<Map>& a) {
  const int dim = a.pool.layout.head_dim;
  const int group = a.heads / a.pool.layout.kv_heads;
  for (int row = 0; row < a.rows; ++row) {
    for (int head = 0; head < a.heads; ++head) {
      attend(a.pool, a.layer, a.map, a.map_row[row], head / group, a.length[row],
             floats(a.q) + row * a.q_stride + head * dim, a.scale,
             floats(a.out) + row * a.out_stride + head * dim);
    }
  }
}

template <class Map>
void prefill_attention(const PrefillAttentionArgs<Map>& a) {
  const int dim = a.pool.layout.head_dim;
  const int group = a.heads / a.pool.layout.kv_heads;
  for (int s = 0; s < a.sequences; ++s) {
    for (int row = a.row_begin[s]; row < a.row_begin[s + 1]; ++row) {
      const std::int64_t length = a.first[s] + (row - a.row_begin[s]) + 1;
      for (int head = 0; head < a.heads; ++head) {
        attend(a.pool, a.layer, a.map, a.map_row[s], head / group, length,
               floats(a.q) + row * a.q_stride + head * dim, a.scale,
               floats(a.out) + row * a.out_stride + head * dim);
      }
    }
  }
}

template void decode_attention(const DecodeAttentionArgs<AffineMap>&);
template void decode_attention(const DecodeAttentionArgs<BlockTableMap>&);
template void prefill_attention(const PrefillAttentionArgs<AffineMap>&);
template void prefill_attention(const PrefillAttentionArgs<BlockTableMap>&);

void run_mem_plan(const MemPlanArgs& a) {
  for (std::int64_t i = 0; i < a.count; ++i) {
    const MemOp& op = a.ops[i];
    if (is_free(op.kind)) continue;
    const KvPool& from = op.kind == MemOpKind::swap_in ? a.host : a.device;
    const KvPool& to = op.kind == MemOpKind::swap_out ? a.host : a.device;
    const std::int64_t width = from.layout.slot_stride();
    for (int layer = 0; layer < from.layout.layers; ++layer) {
      for (int part = 0; part < 2; ++part) {
        for (std::int64_t e = 0; e < op.length.count() * width; ++e) {
          floats(to.data)[to.layout.part_offset(layer, part) + op.dst.index() * width + e] =
              floats(from.data)[from.layout.part_offset(layer, part) + op.src.index() * width + e];
        }
      }
    }
  }
}

void linear(const LinearArgs& a) {
  for (int row = 0; row < a.rows; ++row) {
    for (int n = 0; n < a.out; ++n) {
      double sum = a.bias ? double{floats(a.bias)[n]} : 0.0;
      for (int k = 0; k < a.in; ++k) {
        sum += double{floats(a.x)[row * a.x_stride + k]} *
               double{floats(a.weight)[std::int64_t{n} * a.in + k]};
      }
      if (a.residual) sum += double{floats(a.residual)[row * a.y_stride + n]};
      floats(a.y)[row * a.y_stride + n] = static_cast<float>(sum);
    }
  }
}

void norm(const NormArgs& a) {
  for (int row = 0; row < a.rows; ++row) {
    for (int segment = 0; segment < a.segments; ++segment) {
      const float* x = floats(a.x) + row * a.x_stride + std::int64_t{segment} * a.width;
      float* y = floats(a.y) + row * a.y_stride + std::int64_t{segment} * a.width;
      double mean = 0;
      if (a.kind == NormKind::layer_norm) {
        for (int i = 0; i < a.width; ++i) mean += double{x[i]} / a.width;
      }
      double square = 0;
      for (int i = 0; i < a.width; ++i) square += (x[i] - mean) * (x[i] - mean) / a.width;
      const double factor = 1 / std::sqrt(square + double{a.epsilon});
      for (int i = 0; i < a.width; ++i) {
        double value = (x[i] - mean) * factor * double{floats(a.weight)[i]};
        if (a.kind == NormKind::layer_norm) value += double{floats(a.bias)[i]};
        y[i] = static_cast<float>(value);
      }
    }
  }
}

void rope(const RopeArgs& a) {
  const int half = a.head_dim / 2;
  for (int row = 0; row < a.rows; ++row) {
    const std::int64_t at = std::int64_t{a.position[row]} * half;
    for (int head = 0; head < a.heads; ++head) {
      float* x = floats(a.x) + row * a.x_stride + std::int64_t{head} * a.head_dim;
      for (int i = 0; i < half; ++i) {
        const double c = double{a.cos[at + i]};
        const double s = double{a.sin[at + i]};
        const double low = double{x[i]};
        const double high = double{x[i + half]};
        x[i] = static_cast<float>(low * c - high * s);
        x[i + half] = static_cast<float>(high * c + low * s);
      }
    }
  }
}

void activation(const ActivationArgs& a) {
  for (int row = 0; row < a.rows; ++row) {
    const float* x = floats(a.x) + row * a.x_stride;
    float* y = floats(a.y) + row * a.y_stride;
    for (int i = 0; i < a.width; ++i) {
      if (a.kind == ActivationKind::relu) {
        y[i] = std::max(x[i], 0.0f);
      } else {
        const double gate = double{x[i]};
        y[i] = static_cast<float>(gate / (1 + std::exp(-gate)) * double{x[a.width + i]});
      }
    }
  }
}

void embedding(const EmbeddingArgs& a) {
  for (int row = 0; row < a.rows; ++row) {
    for (int i = 0; i < a.width; ++i) {
      float value = floats(a.table)[std::int64_t{a.token[row]} * a.width + i];
      if (a.position_table) {
        value += floats(a.position_table)[std::int64_t{a.position[row]} * a.width + i];
      }
      floats(a.y)[row * a.y_stride + i] = value;
    }
  }
}

}  // namespace kvstow::kernels::reference
