// A bar with rate and time left on a terminal, a plain line now and then elsewhere.
#pragma once

#include "bench/experiment/runner.h"

namespace kvstow {

class ProgressPrinter {
 public:
  ProgressPrinter();

  void show(const Progress& progress);
  void finish();  // removes the bar

 private:
  bool terminal_;
  double last_shown_s_ = 0;
};

}  // namespace kvstow
