// SPDX-License-Identifier: Apache-2.0
// What every source of the module needs: its record, for settings and log levels.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <http_config.h>
#include <http_log.h>

#if !AP_MODULE_MAGIC_AT_LEAST(20120211, 55)
#error \
    "mod_linger needs httpd 2.4.20 or newer (module magic number 20120211.55): \
older ones don't have the pre_close_connection hook"
#endif

// Compiled with -fvisibility=hidden; httpd looks this one up by name.
extern "C" [[gnu::visibility(
    "default")]] module_struct linger_module;  // not "module": clang++ takes that for a keyword

APLOG_USE_MODULE(linger);
