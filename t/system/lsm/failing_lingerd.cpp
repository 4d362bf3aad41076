// SPDX-License-Identifier: Apache-2.0
// A lingerd that finds its configuration fine, and ends before it serves.
#include <string_view>

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--check-config") return 0;
  }
  return 1;
}
