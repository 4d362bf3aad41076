// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/past_ssl.h"

#include <httpd.h>  // before the others, which need it

#include <apr_buckets.h>
#include <http_connection.h>
#include <util_filter.h>

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "mod_linger/guarded.h"
#include "mod_linger_tls/filters.h"
#include "mod_linger_tls/inner/bridge.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/record.h"

namespace lingerd::tls {
namespace {

constexpr char kFilter[] = "LINGER_PAST_TLS";
// mod_ssl's own type. Of one type the filter that was added first is above.
constexpr auto kAboveSsl = static_cast<ap_filter_type>(AP_FTYPE_CONNECTION + 5);
// Goes down in one piece.
constexpr std::size_t kAtOnce = 4 * kMaxContent;

// Nothing but mod_ssl's filter is passed by.
bool is_over_ssl(const ap_filter_t* filter, const Connection& ours) {
  const ap_filter_t* ssl = filter->next;
  return ssl->next == ours.below_ssl && std::string_view(ssl->frec->name) == "ssl/tls filter";
}

bool may_pass_by(const ap_filter_t* filter, const Connection& ours) {
  return !ours.gone && ours.bridge->may_pass_by() && is_over_ssl(filter, ours) &&
         ssl_of(ours) != nullptr;
}

// What is on its way past mod_ssl.
class Passage {
 public:
  Passage(Connection& ours, apr_bucket_alloc_t* allocator)
      : ours_(ours), out_(apr_brigade_create(ours.connection->pool, allocator)) {}
  ~Passage() { apr_brigade_destroy(out_); }
  Passage(const Passage&) = delete;
  Passage& operator=(const Passage&) = delete;

  void metadata(apr_bucket* bucket) {
    APR_BUCKET_REMOVE(bucket);
    APR_BRIGADE_INSERT_TAIL(out_, bucket);
  }

  apr_status_t data(apr_bucket* bucket) {
    const char* data = nullptr;
    apr_size_t length = 0;
    apr_status_t status = apr_bucket_read(bucket, &data, &length, APR_NONBLOCK_READ);
    if (APR_STATUS_IS_EAGAIN(status)) {
      // A handler that takes its time: what is there meanwhile isn't kept from the client.
      APR_BRIGADE_INSERT_TAIL(out_, apr_bucket_flush_create(out_->bucket_alloc));
      status = go();
      if (status == APR_SUCCESS) status = apr_bucket_read(bucket, &data, &length, APR_BLOCK_READ);
    }
    if (status != APR_SUCCESS) return status;
    ConstBytes content{reinterpret_cast<const unsigned char*>(data), length};
    while (!content.empty() && status == APR_SUCCESS) {
      const std::size_t now = std::min(content.size(), kAtOnce);
      status = seal(content.first(now));
      content = content.subspan(now);
      waiting_ += now;
      if (status == APR_SUCCESS && waiting_ >= kAtOnce) status = go();
    }
    apr_bucket_delete(bucket);
    return status;
  }

  apr_status_t go() {
    waiting_ = 0;
    if (APR_BRIGADE_EMPTY(out_)) return APR_SUCCESS;
    const apr_status_t status = ap_pass_brigade(ours_.below_ssl->next, out_);
    apr_brigade_cleanup(out_);
    return status;
  }

 private:
  apr_status_t seal(ConstBytes content) {
    Bridge& bridge = *ours_.bridge;
    const bool fresh = bridge.freshen_client_key();
    take_for_client(bridge, out_);
    if (!fresh) return broken(ours_.connection, bridge);
    const std::size_t length = Bridge::records_length(content.size());
    auto* records = static_cast<unsigned char*>(apr_bucket_alloc(length, out_->bucket_alloc));
    if (!bridge.seal_content(content, {records, length})) {
      apr_bucket_free(records);
      take_for_client(bridge, out_);
      return broken(ours_.connection, bridge);
    }
    APR_BRIGADE_INSERT_TAIL(out_, apr_bucket_heap_create(reinterpret_cast<char*>(records), length,
                                                         apr_bucket_free, out_->bucket_alloc));
    return APR_SUCCESS;
  }

  Connection& ours_;
  apr_bucket_brigade* out_;
  std::size_t waiting_ = 0;
};

apr_status_t past_ssl(ap_filter_t* filter, apr_bucket_brigade* brigade) {
  auto& ours = *static_cast<Connection*>(filter->ctx);
  if (!may_pass_by(filter, ours)) return ap_pass_brigade(filter->next, brigade);
  if (filter->c->aborted) {
    apr_brigade_cleanup(brigade);
    return APR_ECONNABORTED;
  }
  Passage passage(ours, brigade->bucket_alloc);
  while (!APR_BRIGADE_EMPTY(brigade)) {
    apr_bucket* first = APR_BRIGADE_FIRST(brigade);
    if (AP_BUCKET_IS_EOC(first)) {  // the end, which mod_ssl announces
      const apr_status_t status = passage.go();
      return status == APR_SUCCESS ? ap_pass_brigade(filter->next, brigade) : status;
    }
    if (APR_BUCKET_IS_METADATA(first)) {
      passage.metadata(first);
    } else if (const apr_status_t status = passage.data(first); status != APR_SUCCESS) {
      return status;
    }
  }
  return passage.go();
}

}  // namespace

void register_past_ssl() {
  ap_register_output_filter(kFilter, guarded<past_ssl, APR_ENOMEM>, nullptr, kAboveSsl);
}

void add_past_ssl(conn_rec* connection, Connection& ours) {
  if (ours.bridge) ap_add_output_filter(kFilter, &ours, nullptr, connection);
}

}  // namespace lingerd::tls
