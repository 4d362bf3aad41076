// SPDX-License-Identifier: Apache-2.0
// What every source of the module that sees httpd needs: its record, for settings and log levels.
#pragma once

#include <httpd.h>  // before the others, which need it

#include <http_config.h>
#include <http_log.h>

// Compiled with -fvisibility=hidden; httpd looks this one up by name.
extern "C" [[gnu::visibility("default")]] module_struct linger_tls_module;

APLOG_USE_MODULE(linger_tls);
