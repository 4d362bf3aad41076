// SPDX-License-Identifier: Apache-2.0
// How a model-based test runs: a random life for each of 300 seeds. NAME_MODEL_RUNS makes them more
// or fewer; NAME_MODEL_SEED repeats one that failed.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>

namespace lingerd {

inline std::uint64_t number_from(const std::string& variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable.c_str());
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// What every model has: its dice, its clock, and the words that say how to see a failure again.
class RandomModel {
 protected:
  RandomModel(std::string name, std::uint64_t seed)
      : random_(seed), name_(std::move(name)), seed_(seed) {}

  std::uint64_t pick(std::uint64_t below) { return random_() % below; }
  [[nodiscard]] std::uint64_t now_ns() const { return now_ms_ * 1'000'000 + 999'999; }
  [[nodiscard]] std::string failed(const std::string& what, const std::string& meanwhile) const {
    return what + ": " + name_ + "_MODEL_SEED=" + std::to_string(seed_) + ", step " +
           std::to_string(step_) + ", " + meanwhile;
  }

  std::mt19937_64 random_;
  std::uint64_t now_ms_ = 0;
  int step_ = 0;

 private:
  std::string name_;
  std::uint64_t seed_;
};

// `Model` is made of a seed, and runs so many steps.
template <typename Model>
void run_model(const std::string& name) {
  constexpr int kSteps = 1'000;
  const std::string seed_variable = name + "_MODEL_SEED";
  if (std::getenv(seed_variable.c_str()) != nullptr) {
    Model(number_from(seed_variable, 0)).run(kSteps);
    return;
  }
  const std::uint64_t runs = number_from(name + "_MODEL_RUNS", 300);
  for (std::uint64_t seed = 1; seed <= runs; ++seed) Model(seed).run(kSteps);
}

}  // namespace lingerd
