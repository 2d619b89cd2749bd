// A directory of results while one run writes into it.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <vector>

namespace kvstow {

class ResultsFolder {
 public:
  // Makes `directory` and `folders` in it, and keeps other runs out of it until this one ends: two
  // would overwrite each other's lists. InputError where that cannot be; nothing is left then.
  ResultsFolder(const std::filesystem::path& directory, std::initializer_list<const char*> folders);
  // Folders that were made here and that nothing was written into go again; also where the run ends
  // by SIGINT, SIGTERM or SIGHUP.
  ~ResultsFolder();
  ResultsFolder(const ResultsFolder&) = delete;
  ResultsFolder& operator=(const ResultsFolder&) = delete;

 private:
  ResultsFolder() = default;
  void make(const std::filesystem::path& folder);
  void lock(const std::filesystem::path& directory);

  std::vector<std::filesystem::path> made_;  // parents first
  int held_ = -1;                            // descriptor of the directory, with the lock on it
};

}  // namespace kvstow
