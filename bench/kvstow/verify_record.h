// What a `kvstow verify` leaves to be kept: one JSON file, whole after every system.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "bench/experiment/point.h"
#include "bench/verify/verify.h"

namespace kvstow {

class VerifyRecord {
 public:
  // Empty: nothing is written. InputError where the file cannot be: before anything is computed.
  explicit VerifyRecord(std::string file);

  // The run of one system; `level` as verify_command.cpp has it.
  void add(const ResolvedPoint&, int level, std::size_t requests, const ArmVerdict&, double wall_s);

 private:
  std::string file_;
  nlohmann::json arms_ = nlohmann::json::array();
};

}  // namespace kvstow
