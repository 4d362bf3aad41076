// SPDX-License-Identifier: Apache-2.0
#include "lingerd/report.h"
#include "lingerd/report_words.h"

namespace lingerd {

std::string html_section(const Report& report) {
  return "<hr />\n<h2>Linger: " + std::string(state_word(report.daemon.liveness)) + "</h2>\n";
}

std::string html_page(const Report& report, unsigned) {
  return "<!DOCTYPE html><title>Linger</title>" + html_section(report);
}

}  // namespace lingerd
