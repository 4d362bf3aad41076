// SPDX-License-Identifier: Apache-2.0
#include "report/chart.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "base/numbers.h"
#include "report/words.h"

namespace lingerd {
namespace {

constexpr double kHeight = 100;
constexpr double kHeadroom = 2;  // so that a line at the top or the bottom isn't cut in half

struct Run {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// The next stretch of slots from `from` on that have a value (or have none).
Run next_run(const Series& series, std::size_t from, bool with_value) {
  while (from < series.size() && series[from].has_value() != with_value) ++from;
  Run run{from, from};
  while (run.end < series.size() && series[run.end].has_value() == with_value) ++run.end;
  return run;
}

std::string y_of(double value, double top) {
  return shortest(kHeight - kHeadroom - (kHeight - 2 * kHeadroom) * std::min(value / top, 1.0));
}

// A slot is one unit wide; its point is in its middle. A lonely slot becomes a short dash.
std::string line_path(const Series& series, const Run& run, double top) {
  if (run.end - run.begin == 1) {
    return "M" + std::to_string(run.begin) + " " + y_of(*series[run.begin], top) + "h1";
  }
  std::string path;
  for (std::size_t i = run.begin; i < run.end; ++i) {
    path.append(path.empty() ? "M" : "L").append(std::to_string(i)).append(".5 ");
    path += y_of(*series[i], top);
  }
  return path;
}

std::string area_path(const std::string& line, const Run& run, double top) {
  const bool lonely = run.end - run.begin == 1;
  const std::string half = lonely ? "" : ".5";
  return line + "V" + y_of(0, top) + "H" + std::to_string(run.begin) + half + "Z";
}

// One path of class linger-<name>-<part>.
void draw_path(std::string& out, const Curve& curve, const char* part, const char* paint,
               const std::string& path) {
  out.append("<path class=\"linger-").append(curve.name).append(part).append(paint);
  out.append(curve.colour).append("\" d=\"").append(path).append("\"/>");
}

void draw_curve(std::string& out, const Curve& curve, double top) {
  for (Run run = next_run(*curve.series, 0, true); run.begin < run.end;
       run = next_run(*curve.series, run.end, true)) {
    const std::string line = line_path(*curve.series, run, top);
    draw_path(out, curve, "-area", "\" fill-opacity=\".16\" fill=\"", area_path(line, run, top));
    draw_path(out, curve, "-line",
              "\" fill=\"none\" stroke-width=\"1.6\" stroke-linejoin=\"round\""
              " vector-effect=\"non-scaling-stroke\" stroke=\"",
              line);
  }
}

void draw_gaps(std::string& out, const Series& series) {
  for (Run run = next_run(series, 0, false); run.begin < run.end;
       run = next_run(series, run.end, false)) {
    out += "<rect class=\"linger-gap\" fill=\"#e9ecf0\" x=\"" + std::to_string(run.begin) +
           "\" y=\"0\" width=\"" + std::to_string(run.end - run.begin) + "\" height=\"100\"/>";
  }
}

void draw_grid(std::string& out, double top) {
  for (const double part : {0.0, 0.5, 1.0}) {
    out +=
        "<path class=\"linger-grid\" stroke=\"#dde1e7\" vector-effect=\"non-scaling-stroke\""
        " d=\"M0 " +
        y_of(part * top, top) + "H" + std::to_string(kSeriesLength) + "\"/>";
  }
}

std::string share(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "0";
  return shortest(std::min(100.0, 100.0 * static_cast<double>(part) / static_cast<double>(whole)));
}

}  // namespace

double chart_top(std::span<const Curve> curves) {
  double most = 0;
  for (const Curve& curve : curves) {
    for (const std::optional<double>& value : *curve.series)
      most = std::max(most, value.value_or(0));
  }
  double top = 1;
  while (top < most) {
    for (const double step : {2.0, 3.0, 4.0, 6.0, 8.0, 10.0}) {
      if (top * step >= most) return top * step;
    }
    top *= 10;
  }
  return top;
}

std::string chart_svg(std::span<const Curve> curves, double top, std::string_view label) {
  std::string out = "<svg role=\"img\" aria-label=\"" + std::string(label) +
                    "\" width=\"100%\" height=\"140\" preserveAspectRatio=\"none\" viewBox=\"0 0 " +
                    std::to_string(kSeriesLength) + " 100\">";
  draw_gaps(out, *curves.front().series);
  draw_grid(out, top);
  for (const Curve& curve : curves) draw_curve(out, curve, top);
  return out + "</svg>";
}

std::string bar_svg(std::uint64_t now, std::uint64_t peak, std::uint64_t limit,
                    std::string_view label) {
  return "<svg role=\"img\" aria-label=\"" + std::string(label) +
         "\" width=\"100%\" height=\"8\" preserveAspectRatio=\"none\" viewBox=\"0 0 100 8\">"
         "<rect class=\"linger-track\" fill=\"#e9ecf0\" width=\"100\" height=\"8\"/>"
         "<rect class=\"linger-fill" +
         std::string(now >= limit - limit / 5 ? " linger-near" : "") +
         "\" fill=\"#2f6bd8\" height=\"8\" width=\"" + share(now, limit) +
         "\"/><rect class=\"linger-mark\" fill=\"#5d6778\" height=\"8\"" + " width=\".6\" x=\"" +
         share(peak, limit) + "\"/></svg>";
}

}  // namespace lingerd
