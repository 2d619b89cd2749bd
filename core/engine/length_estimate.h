// How long a scheduler tells the allocator that a request will get. Separate from placement: Orca's
// three variants are one buddy allocator under three estimates.
#pragma once

#include "core/request.h"
#include "core/types.h"

namespace kvstow {

// The estimated output length of a request, before the model's limit is applied.
using LengthEstimate = Tokens (*)(const Request&, Tokens max_model_len);

// Slots to ask for: min(prompt + estimate, max_model_len), but never less than the prompt.
[[nodiscard]] inline Tokens expected_total(const Request& request, LengthEstimate estimate,
                                           Tokens max_model_len) {
  return max(request.prompt, min(request.prompt + estimate(request, max_model_len), max_model_len));
}

}  // namespace kvstow
